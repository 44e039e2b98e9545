"""The plan of a run, from manifests as stages leave them: skip, resume, grow, again, refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from openr1.config.recipe import Recipe
from openr1.errors import UserError
from openr1.launch.key import growth_of, identity_of, key_of
from openr1.launch.plan import make_plan
from openr1.launch.words import compose
from openr1.manifest import Manifest

NAMES = ["prompts", "sft", "generate", "verify", "curate", "grpo"]


def recipe_of(*words: str) -> Recipe:
    return compose(["recipe=tiny", *words])[0]


def finish(recipe: Recipe, folder: Path, name: str, content: str = "a") -> None:
    """Leave what a finished stage leaves: a manifest whose outputs have the hash `content`."""
    settings = recipe.stages[name]
    hashes = {n: f"{ref}:a" for n, ref in settings.inputs.items()}
    Manifest(
        stage=name,
        kind=settings.kind,
        key=key_of(settings, hashes),
        identity=identity_of(settings),
        growth=growth_of(settings, hashes),
        inputs={n: {"ref": ref, "hash": hashes[n]} for n, ref in settings.inputs.items()},
        outputs={o: {"path": o, "kind": k, "hash": f"{name}/{o}:{content}"} for o, k in settings.outputs().items()},
        status="done",
        attempt=1,
    ).save(folder / name)


def plan(recipe: Recipe, folder: Path, **kwargs: list[str]) -> dict[str, str]:
    steps = make_plan(recipe, folder, **kwargs)
    return {s.stage: s.action for s in steps if s.stage in NAMES}


@pytest.fixture
def done(tmp_path: Path) -> Path:
    recipe = recipe_of()
    for name in recipe.order():
        finish(recipe, tmp_path, name)
    return tmp_path


def test_a_new_run_runs_everything(tmp_path: Path) -> None:
    assert set(plan(recipe_of(), tmp_path).values()) == {"run"}


def test_a_finished_run_is_skipped(done: Path) -> None:
    assert set(plan(recipe_of(), done).values()) == {"skip"}


@pytest.mark.parametrize("word", ["track.mode=off", "cluster.workers=1", "run=other", "stages.grpo.resources.gpus=4"])
def test_what_is_not_identity_changes_nothing(done: Path, word: str) -> None:
    assert set(plan(recipe_of(word), done).values()) == {"skip"}


def test_changed_settings_are_refused_with_the_difference(done: Path) -> None:
    before = recipe_of().stages["grpo"].train["learning_rate"]
    with pytest.raises(UserError) as caught:
        plan(recipe_of("stages.grpo.train.learning_rate=1e-3"), done)
    (line,) = caught.value.problems
    assert f"{before!r} -> 0.001" in line and "rerun=[grpo]" in line


def test_rerun_says_so_and_keeps_the_old_output_aside(done: Path) -> None:
    steps = make_plan(recipe_of("stages.sft.train.max_steps=7"), done, rerun=["sft"])
    by_name = {s.stage: s for s in steps}
    assert by_name["sft"].action == "run" and by_name["sft"].aside
    assert by_name["prompts"].action == "skip"
    assert by_name["grpo"].action == "after"


def test_growth_asks_only_for_more_and_moves_what_lies_downstream(done: Path) -> None:
    found = plan(recipe_of("stages.generate.k=8"), done)
    assert found["generate"] == "grow"
    assert found["sft"] == "skip"
    assert found["verify"] == found["curate"] == "after"


def test_an_input_that_changed_runs_again_without_rerun(done: Path) -> None:
    recipe = recipe_of()
    finish(recipe, done, "curate", content="b")
    steps = {s.stage: s for s in make_plan(recipe, done)}
    assert steps["grpo"].action == "again" and steps["grpo"].aside
    assert steps["generate"].action == "skip"


def test_more_prompts_are_growth_for_generate(done: Path) -> None:
    manifest = _load(done / "prompts")
    manifest.outputs["rl"]["hash"] = "more rows"
    manifest.save(done / "prompts")
    steps = {s.stage: s.action for s in make_plan(recipe_of(), done)}
    assert steps["generate"] == "grow"
    assert steps["sft"] == "skip"


def test_a_killed_stage_resumes_from_what_it_kept(done: Path) -> None:
    recipe = recipe_of()
    manifest = Manifest(**{**vars(_load(done / "grpo")), "status": "running"})
    manifest.save(done / "grpo")
    (done / "grpo" / "checkpoint-20").mkdir()
    step = {s.stage: s for s in make_plan(recipe, done)}["grpo"]
    assert step.action == "resume" and "checkpoint-20" in step.why


def test_a_killed_stage_of_other_settings_is_refused(done: Path) -> None:
    manifest = Manifest(**{**vars(_load(done / "grpo")), "status": "running"})
    manifest.save(done / "grpo")
    (done / "grpo" / "checkpoint-20").mkdir()
    with pytest.raises(UserError, match="rerun"):
        plan(recipe_of("stages.grpo.train.max_steps=7"), done)


def test_only_some_stages(tmp_path: Path) -> None:
    recipe = recipe_of()
    with pytest.raises(UserError, match="needs sft, curate"):
        make_plan(recipe, tmp_path, only=["grpo"])
    finish(recipe, tmp_path, "prompts")
    assert [s.stage for s in make_plan(recipe, tmp_path, only=["sft"])] == ["sft"]


def test_unknown_stage_names_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean grpo"):
        make_plan(recipe_of(), tmp_path, only=["grpoo"])


# ------------------------------------------------------------------------------------------- files of a local task
ROW = '{"problem": "What is 1 + 2?", "answer": "3"}\n'


def local_plan(folder: Path, data: Path, **kwargs: list[str]) -> dict[str, str]:
    recipe = compose(["recipe=local_example", f"data.path={data}"])[0]
    return {s.stage: s.action for s in make_plan(recipe, folder, **kwargs)}


@pytest.fixture
def local(tmp_path: Path) -> tuple[Path, Path]:
    """A finished run of a local file, and the file."""
    data = tmp_path / "mine.jsonl"
    data.write_text(ROW)
    recipe = compose(["recipe=local_example", f"data.path={data}"])[0]
    for name in recipe.order():
        finish(recipe, tmp_path / "run", name)
    return tmp_path / "run", data


def test_a_task_file_is_known_by_its_content_and_not_by_its_place(local: tuple[Path, Path]) -> None:
    run, data = local
    moved = data.rename(data.with_name("elsewhere.jsonl"))
    assert set(local_plan(run, moved).values()) == {"skip"}


def test_a_task_file_that_changed_is_refused_with_the_difference(local: tuple[Path, Path]) -> None:
    run, data = local
    data.write_text(ROW + ROW.replace("3", "4"))
    with pytest.raises(UserError) as caught:
        local_plan(run, data)
    (line,) = caught.value.problems
    assert f"{data} has changed (sha256 " in line and "rerun=[prompts]" in line
    assert local_plan(run, data, rerun=["prompts"])["prompts"] == "run"


def test_a_task_file_that_is_not_there_is_one_line(local: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="nowhere.jsonl: no such file; mend") as caught:
        local_plan(local[0], local[1].with_name("nowhere.jsonl"))
    assert len(caught.value.problems) == 1


# ------------------------------------------------------------------------------- growth neither shrinks nor mixes
def test_fewer_samples_would_take_rows_away(done: Path) -> None:
    with pytest.raises(UserError) as caught:
        plan(recipe_of("stages.generate.k=2"), done)
    (line,) = caught.value.problems
    assert line == "generate: k: 4 -> 2 would take rows away; keep k, or rerun=[generate]"
    assert plan(recipe_of("stages.generate.k=2"), done, rerun=["generate"])["generate"] == "run"


def test_fewer_samples_of_an_evaluation_use_the_first_ones(done: Path) -> None:
    steps = {s.stage: s.action for s in make_plan(recipe_of("stages.evaluate_before.k=2"), done)}
    assert steps["evaluate_before"] == "grow"


@pytest.mark.parametrize(
    ("stage", "results", "words"),
    [
        ("verify", {"verifiers": ["exact 1", "math 0"]}, []),
        ("verify", {"verifiers": ["math 0"]}, ["stages.generate.k=8"]),
        ("evaluate_after", {"verifier": "exact/1, math/0"}, []),
    ],
)
def test_verdicts_of_another_version_are_neither_skipped_nor_added_to(
    done: Path, stage: str, results: dict[str, object], words: list[str]
) -> None:
    from openr1.verify import get_verifier

    manifest = _load(done / stage)
    manifest.results = results
    manifest.save(done / stage)
    with pytest.raises(UserError) as caught:
        make_plan(recipe_of(*words), done)
    (line,) = caught.value.problems
    version = get_verifier("math").version
    assert line == f"{stage}: graded by math 0, installed is math {version}; rerun=[{stage}]"
    assert {s.stage: s.action for s in make_plan(recipe_of(), done, rerun=[stage])}[stage] == "run"


def test_verdicts_of_the_installed_version_are_skipped(done: Path) -> None:
    from openr1.verify import get_verifier

    manifest = _load(done / "verify")
    manifest.results = {"verifiers": [f"math {get_verifier('math').version}"]}
    manifest.save(done / "verify")
    assert plan(recipe_of(), done)["verify"] == "skip"


# ---------------------------------------------------------------------------------------------------- words of a plan
def test_what_lies_after_an_interrupted_stage_is_decided_later(done: Path) -> None:
    manifest = Manifest(**{**vars(_load(done / "grpo")), "status": "running"})
    manifest.save(done / "grpo")
    (done / "grpo" / "checkpoint-20").mkdir()
    step = {s.stage: s for s in make_plan(recipe_of(), done)}["evaluate_after"]
    assert (step.action, step.why) == ("after", "decided when grpo is done")


def test_rerun_of_a_stage_that_stages_leaves_out_is_refused(done: Path) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(recipe_of(), done, only=["sft"], rerun=["grpo"])
    (line,) = caught.value.problems
    assert line.startswith("rerun=[grpo]: grpo is not among stages=[sft]")


def _load(folder: Path) -> Manifest:
    from openr1.manifest import load_manifest

    manifest = load_manifest(folder)
    assert manifest is not None
    return manifest
