"""What a recipe with vLLM rollouts asks for and cannot have is told before anything starts."""

from __future__ import annotations

import pytest

from openr1.config import compose_recipe, validate
from openr1.config.recipe import Recipe
from openr1.errors import UserError
from openr1.launch.check import check

RECIPE = "qwen2_5_1_5b_grpo"  # colocate on 8 GPUs
SERVER = "stages.grpo.train.vllm_mode=server"
URL = "stages.grpo.train.vllm_server_base_url=http://there:8000"


def composed(*words: str, recipe: str = RECIPE, cluster: str = "slurm_h100_8") -> Recipe:
    tree = compose_recipe(recipe, [f"cluster={cluster}", *words])
    return validate(tree | {"run": recipe})


def refused(*words: str) -> str:
    with pytest.raises(UserError) as found:
        composed(*words)
    return "\n".join(found.value.problems)


def test_a_server_needs_gpus_beside_those_that_train() -> None:
    assert composed(SERVER).stages["grpo"].world_size == 7  # of 8 GPUs, the last one is the server's
    four = "stages.grpo.parallel.processes=4"
    assert "resources.gpus: 8, but 4 that train and 1 of the vLLM server" in refused(SERVER, four)
    assert composed(SERVER, four, "stages.grpo.train.vllm_tensor_parallel_size=4")
    two = "stages.grpo.resources.nodes=2"
    assert composed(SERVER, two).stages["grpo"].world_size == 8  # the last node is the server's
    assert "4 processes, and 8 GPUs beside the server's" in refused(SERVER, four, two)
    block = "+stages.grpo.server={tensor_parallel: 2, data_parallel: 2}"
    assert composed(SERVER, block).stages["grpo"].world_size == 4
    assert "server: takes 8 GPUs, the node has 8 and one has to train" in refused(
        SERVER, "stages.grpo.train.vllm_tensor_parallel_size=8"
    )


def test_the_server_is_told_everything_once() -> None:
    block, split = "+stages.grpo.server={tensor_parallel: 2}", "stages.grpo.train.vllm_tensor_parallel_size=4"
    (line,) = refused(SERVER, block, split).splitlines()
    assert "server.tensor_parallel: 2, and train.vllm_tensor_parallel_size: 4 say the same thing; remove one" in line
    share = ["+stages.grpo.server.gpu_memory_utilization=0.8", "stages.grpo.train.vllm_gpu_memory_utilization=0.5"]
    assert "server.gpu_memory_utilization: 0.8, and train.vllm_gpu" in refused(SERVER, *share)
    assert composed(SERVER, split, "+stages.grpo.server.data_parallel=1").stages["grpo"].world_size == 4


def test_check_says_which_gpus_of_the_servers_node_are_idle() -> None:
    def place(*words: str) -> str:
        lines = check(composed(SERVER, "stages.grpo.resources.nodes=2", *words))["lines"]
        return next(line for line in lines if "a vLLM server" in line).partition("draws, on ")[2]

    assert place() == "1 of the 8 GPUs of the last node; 7 of them are idle, server.data_parallel 8 takes more"
    assert place("+stages.grpo.server={tensor_parallel: 5}") == "5 of the 8 GPUs of the last node; 3 of them are idle"
    assert place("+stages.grpo.server={tensor_parallel: 2, data_parallel: 4}") == "8 of the 8 GPUs of the last node"


def test_check_says_which_gpus_an_engine_leaves_idle() -> None:
    def idle(*words: str) -> list[str]:
        recipe = composed(*words, recipe="openr1_math_220k")  # 2 nodes with 8 GPUs each
        return [line.strip() for line in check(recipe)["lines"] if "idle" in line]

    assert idle() == []
    one = "stages.generate.engine.pipeline_parallel=1"
    assert idle(one) == ["vLLM takes 8 of 16 GPUs; 8 are idle, engine.data_parallel 2 takes 16"]
    split = "stages.generate.engine.tensor_parallel=5"
    assert idle(one, split, "stages.generate.engine.data_parallel=2") == ["vLLM takes 10 of 16 GPUs; 6 are idle"]


def test_arguments_of_the_other_mode_are_dead_and_refused() -> None:
    assert "vllm_server_base_url: is for vllm_mode server" in refused(URL)
    assert "vllm_enable_sleep_mode: is for vllm_mode colocate" in refused(
        SERVER, URL, "stages.grpo.train.vllm_enable_sleep_mode=true"
    )
    decided = refused(SERVER, URL, "stages.grpo.train.vllm_gpu_memory_utilization=0.5")
    assert "was decided where the server at http://there:8000 was started" in decided
    assert "use `vllm_server_base_url`" in refused(SERVER, "stages.grpo.train.vllm_server_port=8001")


def test_one_seed_for_all_rows_and_a_length_without_room_are_refused() -> None:
    assert "copies of each other" in refused("stages.grpo.train.generation_kwargs={seed: 1}")
    assert "belongs to the trainer" in refused("stages.grpo.train.generation_kwargs={n: 2}")
    assert "1024 leaves no room for a prompt beside max_completion_length 1024" in refused(
        "stages.grpo.train.vllm_max_model_length=1024"
    )


def test_check_says_where_vllm_draws_and_what_anothers_server_is_started_with() -> None:
    assert any("vLLM draws in the 8 processes that train" in line for line in check(composed())["lines"])
    ours = composed(SERVER, "stages.grpo.parallel.processes=7")
    assert any("a vLLM server that the stage starts draws, on 1 GPUs of its own" in x for x in check(ours)["lines"])
    said = "\n".join(check(composed(SERVER, URL))["not_checked"])
    for word in ("http://there:8000", "VLLM_SERVER_DEV_MODE=1", "--weight-transfer-config", "processed_logprobs"):
        assert word in said


def test_check_says_how_to_get_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine: what is not installed is a problem of the stage."""
    from openr1.train import available

    monkeypatch.setattr(available, "find_spec", lambda module: None if module == "vllm" else object())
    recipe = composed("stages.grpo.train.use_vllm=true", recipe="smollm2_135m", cluster="local")
    (line,) = [p for p in check(recipe)["problems"] if "vLLM" in p]
    assert line.startswith("stages.grpo: train.use_vllm: needs vLLM in the environment that trains, which is not here")
    assert "make setup-vllm builds .venv-vllm" in line and ".venv-vllm/bin/openr1" in line


def test_where_vllm_runs_is_not_in_the_key() -> None:
    seven, eight = "stages.grpo.resources.gpus=7", "stages.grpo.parallel.processes=7"
    keys = [composed(*w).stages["grpo"].identity() for w in ([seven], [SERVER, eight], [SERVER, URL, seven])]
    assert keys[0] == keys[1] == keys[2] and keys[0]["train"]["use_vllm"]
