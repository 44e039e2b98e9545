"""Every shipped recipe on every cluster: it composes, fits where its file says, and is refused elsewhere in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from openr1.config import compose_recipe, validate
from openr1.config.cluster import ClusterSettings
from openr1.config.recipe import Recipe
from openr1.errors import UserError
from openr1.launch import hardware
from openr1.launch.capacity import Capacity, capacity
from openr1.models.size import shape_of
from openr1.paths import data_dir
from openr1.stages.settings import GRPOStage, SFTStage
from openr1.train.check import train_problems

ROOT = data_dir("recipes")
RECIPES = sorted(p.stem for p in (ROOT / "recipe").glob("*.yaml"))
CLUSTERS = sorted(p.stem for p in (ROOT / "cluster").glob("*.yaml"))
PRESETS = sorted(p.stem for p in (ROOT / "algorithm").glob("*.yaml"))


@cache
def composed(name: str, *words: str) -> Recipe:
    tree = compose_recipe(name, list(words))
    tree["run"] = name
    return validate(tree)


def on(name: str, cluster: str, *words: str) -> Recipe:
    """A recipe on a cluster, composed once whatever the cluster: the groups do not know of each other."""
    settings = ClusterSettings.model_validate(yaml.safe_load((ROOT / "cluster" / f"{cluster}.yaml").read_text()))
    return composed(name, *words).model_copy(update={"cluster": settings})


def capacity_on(name: str, cluster: str, *words: str) -> Capacity:
    return capacity(on(name, cluster, *words), Path("runs") / name)


def published(name: str) -> bool:
    """Whether a recipe, or one that it builds on, says which clusters it is meant for."""
    tree = yaml.safe_load((ROOT / "recipe" / f"{name}.yaml").read_text())
    return "clusters" in tree or any(published(d) for d in tree["defaults"] if isinstance(d, str) and d != "_self_")


MEANT = [name for name in RECIPES if published(name)]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of `local` must not depend on where the tests run."""
    monkeypatch.setattr(hardware, "gpus", list)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_recipe_fits_the_clusters_it_is_meant_for_and_no_others(name: str, cluster: str) -> None:
    recipe, found = on(name, cluster), capacity_on(name, cluster)
    said = found.devices + found.problems
    assert set(recipe.clusters) <= set(CLUSTERS)
    assert recipe.cluster.name == cluster
    if not recipe.clusters:
        assert cluster != "local" or not recipe.stages or all("GPU" in line for line in said)
    elif cluster in recipe.clusters:
        assert said == []
    else:
        assert said
        for line in said:
            assert "memory: about" in line or "GPU" in line or "nodes" in line
            assert line.endswith(f"meant for cluster={' or '.join(recipe.clusters)}")


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_cluster_composes(cluster: str) -> None:
    assert composed("olympic_coder_7b", f"cluster={cluster}") == on("olympic_coder_7b", cluster)


@pytest.mark.parametrize("name", MEANT)
def test_a_recipe_says_its_batches_and_their_source(name: str) -> None:
    comments = [line for line in (ROOT / "recipe" / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    text = "\n".join(comments)
    assert "per device" in text and " = " in text
    recipe = composed(name)
    for settings in recipe.stages.values():
        if isinstance(settings, SFTStage | GRPOStage):
            rows = settings.train.get("per_device_train_batch_size")
            accumulated = settings.train.get("gradient_accumulation_steps", 1)
            assert f"{rows} per device x {settings.world_size}" in text or settings.world_size == 1
            assert f"{rows * settings.world_size * accumulated:,}" in text


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen2_5_math_1_5b", 1.5437), ("qwen2_5_1_5b_instruct", 1.5437), ("qwen2_5_math_7b", 7.62),
        ("qwen2_5_7b", 7.62), ("qwen2_5_coder_7b_instruct", 7.62), ("qwen2_5_14b", 14.77), ("qwen2_5_32b", 32.76),
        ("llama_3_1_8b", 8.03), ("llama_3_3_70b_instruct", 70.55), ("qwen3_30b_a3b", 30.53),
        ("smollm2_135m", 0.1345),
    ],
)  # fmt: skip
def test_the_facts_of_a_model_make_its_published_size(name: str, billions: float) -> None:
    from openr1.models.settings import ModelSettings

    shape = shape_of(ModelSettings.model_validate(yaml.safe_load((ROOT / "model" / f"{name}.yaml").read_text())))
    assert shape is not None
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.002)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_algorithm_composes_and_its_arguments_are_known(preset: str) -> None:
    text = (ROOT / "algorithm" / f"{preset}.yaml").read_text()
    assert "https://" in text
    words = [f"algorithm@stages.grpo.train={preset}"]
    stage = composed("local_example", *words, "stages.grpo.train.gradient_accumulation_steps=1").stages["grpo"]
    assert isinstance(stage, GRPOStage)
    assert train_problems("grpo", stage.train) == []
    told = yaml.safe_load(text)
    assert {
        k: v for k, v in told.items() if k not in ("num_generations", "temperature")
    }.items() <= stage.train.items()


EXPECTED: dict[str, dict[str, Any]] = {
    "r1": {"loss_type": "grpo", "beta": 0.001, "epsilon": 10.0, "num_generations": 16, "temperature": 1.0,
           "sync_ref_model": True, "ref_model_sync_steps": 400, "ref_model_mixup_alpha": 1.0},
    "dapo": {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.0,
             "mask_truncated_completions": True},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0},
    "gspo": {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4,
             "steps_per_generation": 4},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0, "scale_rewards": "batch"},
    "grpo": {"loss_type": "grpo", "beta": 0.04, "epsilon": 0.2},
}  # fmt: skip


def test_the_numbers_of_the_presets_are_those_of_the_papers() -> None:
    for preset, values in EXPECTED.items():
        told = yaml.safe_load((ROOT / "algorithm" / f"{preset}.yaml").read_text())
        assert values.items() <= told.items(), preset


def test_an_unknown_preset_is_refused_with_near_names() -> None:
    with pytest.raises(UserError, match="algorithm=dappo does not exist; did you mean dapo"):
        compose_recipe("local_example", ["algorithm@stages.grpo.train=dappo"])
    with pytest.raises(UserError, match=r"algorithm@stages\.<stage>\.train="):
        compose_recipe("local_example", ["algorithm=dapo"])


PLACED = {
    "algorithm@stages.grp.train=dapo": "is chosen at stages.grp.train; did you mean algorithm@stages.grpo.train?",
    "+algorithm@stages.grpo.train=dapo": "algorithm@stages.grpo.train is chosen already; leave the + out",
    "stages.grpo.algorithm=dapo": "a preset is chosen as algorithm@stages.grpo.train=NAME",
    "algorithm@stages.grpo.train=1": "1 is no choice; did you mean r1?",
}


@pytest.mark.parametrize("word", PLACED)
def test_a_preset_in_the_wrong_place_is_told_its_place_in_our_words(word: str) -> None:
    with pytest.raises(UserError) as found:
        composed("local_example", word)
    (line,) = found.value.problems
    assert PLACED[word] in line and "ydra" not in line and "default list" not in line


def test_a_recipe_of_ones_own_that_names_no_preset_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes/recipe").mkdir(parents=True)
    override = "override /algorithm@stages.grpo.train: dappo"
    text = f"# @package _global_\ndefaults:\n  - local_example\n  - {override}\n  - _self_\n"
    (tmp_path / "recipes/recipe/mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as found:
        compose_recipe("mine", [])
    assert found.value.problems == ["recipe=mine: algorithm=dappo does not exist; did you mean dapo?"]


LAST = "r1_qwen2_5_7b"


def test_stage_4_has_general_prompts_and_preference_rewards_in_the_last_400_of_its_1700_steps() -> None:
    stage = composed(LAST).stages["final"]
    assert isinstance(stage, GRPOStage)
    assert stage.train["max_steps"] - stage.general_from_step + 1 == 400
    assert {"data", "general", "harmlessness"} <= set(stage.inputs)
    parts = stage.reward.parts
    assert {label for label, part in parts.items() if part.from_step == 1301} == {"helpful", "harmless"}
    rules = ["accuracy", "format", "language_consistency"]
    assert stage.reward.parts_for("reasoning") == stage.reward.parts_for("reasoning", 1) == rules
    assert stage.reward.parts_for("general", 1301) == [*rules[1:], "helpful", "harmless"]
    assert stage.reward.parts_for("harmlessness", 1301) == [*rules[1:], "harmless"]
    assert stage.reward.parts_for("general", 1300) == rules[1:]


def test_what_of_preferences_and_schedules_does_not_fit_is_refused() -> None:
    def final(*words: str) -> str:
        return refused([f"{'~' * (w[0] == '~')}stages.final.{w.lstrip('~')}" for w in words], LAST)

    assert "helpful.from_step: 1301 comes after the last step, 900" in final("train.max_steps=900")
    assert "reward.parts.helpful: is for general prompts, and there are none; connect inputs.general" in final(
        "~inputs.general"
    )
    assert "reward: no part is for the reasoning prompts of inputs.data" in final(
        "~reward.parts.accuracy", "~reward.parts.format", "~reward.parts.language_consistency"
    )
    assert "needs a scorer: {kind: classifier" in final("~reward.parts.helpful.scorer")
    assert "leaves no room for a prompt beside completions of 9300 tokens" in final(
        "length_schedule=[{from_step: 3, max_completion_length: 9300}]"
    )
    assert "max_completion_length: 140000 leaves no room for a prompt in the model's context" in final(
        "length_schedule=[{from_step: 3, max_completion_length: 140000}]"
    )
    assert "length_schedule.0.from_step: 9000 comes after the last step, 1700" in final(
        "length_schedule=[{from_step: 9000, max_completion_length: 8500}]"
    )
    assert "curriculum: needs measured pass rates, prompts/rl has none" in final("curriculum={spread: 0.1}")
    assert "not kept across a resume with fsdp2" in final("parallel.kind=fsdp2")
    assert "general_from_step: no such prompts are there" in refused(["stages.grpo.general_from_step=2"])


def test_the_longest_completion_decides_the_memory() -> None:
    words = ["stages.grpo.length_schedule=[{from_step: 9, max_completion_length: 4096}]",
             "stages.grpo.train.vllm_max_model_length=4608"]  # fmt: skip
    (short,), (long,) = (capacity_on("qwen2_5_1_5b_grpo", "slurm_h100_8", *w).rows for w in ([], words))
    assert long["parts"]["activations"] > 2 * short["parts"]["activations"]


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_check_passes_on_the_clusters_of_a_recipe_and_says_why_not_elsewhere(cluster: str) -> None:
    """As a user sees it: composed on that cluster, every published recipe, through the verb's own function."""
    from openr1.launch.check import check

    for name in MEANT:
        recipe = composed(name, f"cluster={cluster}")
        told = check(recipe)
        if cluster in recipe.clusters:
            assert told["problems"] == [], name
        else:
            assert told["problems"], name
            assert all("memory: about" in line or "GPU" in line or "nodes" in line for line in told["problems"]), name


LEARNING_RATES = {
    "distill_qwen_1_5b": 1e-4, "distill_qwen_7b": 8e-5, "distill_qwen_14b": 7e-5, "distill_qwen_32b": 6e-5,
    "distill_llama_8b": 5e-5, "distill_llama_70b": 2e-5, "openr1_distill_7b": 4e-5, "olympic_coder_7b": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_a_distillation_has_the_learning_rate_and_the_batch_of_its_source(name: str) -> None:
    stage = composed(name).stages["sft"]
    assert isinstance(stage, SFTStage)
    assert stage.train["learning_rate"] == LEARNING_RATES[name]
    rows = stage.train["per_device_train_batch_size"] * stage.train["gradient_accumulation_steps"] * stage.world_size
    assert rows == (64 if name.startswith("distill") else 128)
    assert stage.train["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}
    assert stage.train["max_length"] == 32768


def test_a_reference_that_is_refreshed_needs_a_kl_term() -> None:
    assert "beta 0 has none" in refused(["stages.grpo.train.sync_ref_model=true"])


def refused(words: list[str], name: str = "qwen2_5_1_5b_grpo") -> str:
    with pytest.raises(UserError) as found:
        composed(name, *words)
    return "\n".join(found.value.problems)


def test_what_the_model_cannot_give_is_refused_before_anything_is_loaded() -> None:
    sft = "distill_qwen_7b"
    assert "more than the model's context of 32768" in refused(["stages.sft.train.max_length=65536"], sft)
    assert "leaves no room for a prompt" in refused(["stages.grpo.train.max_completion_length=32768"])
    assert "does not divide the model's 12 heads" in refused(["stages.grpo.train.vllm_tensor_parallel_size=8"])
    assert "does not divide the 8 processes" in refused(["stages.grpo.train.vllm_tensor_parallel_size=3"])
    assert "columns.answer" in refused(["data.columns.answer=null"])
    assert "less than the model's own 4096" in refused(["stages.extend_context.context=2048"], sft)


def test_adapters_that_cannot_be_are_refused() -> None:
    lora = "qwen2_5_1_5b_grpo_lora"
    ref = ["stages.grpo.train.beta=0.01", "stages.grpo.train.sync_ref_model=true"]
    assert "sync_ref_model needs a reference model" in refused(ref, lora)
    experts = ["stages.grpo.lora.r=8", "parallel=ddp"]
    assert "the experts of qwen3_moe are no linear maps" in refused(experts, "qwen3_30b_a3b_grpo")
    assert "did you mean q_proj" in refused(["stages.grpo.lora.target_modules=[qproj]"], lora)
    spread = ["parallel=zero3", "stages.sft.resources.gpus=8", "stages.sft.train.gradient_accumulation_steps=8"]
    assert "lora: adapters are merged into a whole model, zero3 spreads it" in refused(
        spread, "distill_qwen_32b_qlora"
    )


def test_vllm_beside_the_trainer_has_to_hold_the_model() -> None:
    found = capacity_on("r1_zero_qwen2_5_7b", "slurm_h100_8", "stages.grpo.train.vllm_gpu_memory_utilization=0.15")
    assert any("vllm_gpu_memory_utilization" in line and "vLLM needs about" in line for line in found.problems)


def test_too_small_a_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    free = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)  # type: ignore[attr-defined]
    monkeypatch.setattr("openr1.launch.capacity.shutil.disk_usage", lambda path: free)
    found = capacity(composed("smollm2_135m"), tmp_path / "run")
    assert any(line.startswith("disk: checkpoints and models take about") for line in found.problems)


def test_check_prints_the_memory_and_what_it_cannot_reach_without_torch() -> None:
    code = (
        "import sys; from openr1.cli import run_cli\n"
        "code = run_cli(['check', 'recipe=r1_qwen2_5_7b', 'cluster=slurm_h100_8', '--json'])\n"
        "assert code == 0, code\n"
        "assert not {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["stage"] for row in told["memory"]] == ["cold_start", "reasoning_rl", "generate", "sft", "final"]
    assert all(0 < row["total"] <= row["of"] for row in told["memory"])
    assert any("Mixture-of-Thoughts" in line for line in told["not_checked"])
    assert any("total" in line for line in told["lines"])


def test_run_refuses_a_site_that_is_elsewhere_and_gpus_that_are_not_here(tmp_path: Path) -> None:
    from openr1.launch.run import run_recipe

    def at(name: str, cluster: str) -> Recipe:
        tree = compose_recipe(name, [f"cluster={cluster}"])
        tree["run"] = str(tmp_path / name)
        return validate(tree)

    with pytest.raises(UserError, match="is a Slurm site"):
        run_recipe(at("tiny", "test"))
    with pytest.raises(UserError, match=r"stages\.sft\.resources: needs 8 GPUs, cluster local has none"):
        run_recipe(at("olympic_coder_7b", "local"))
