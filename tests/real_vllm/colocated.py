"""GRPO on rollouts of vLLM, as a process of its own: `python colocated.py MODEL WORK KILL [key=json …]`.

KILL is the step after which the process ends as if it were killed, 0 for none; the rest are arguments of `train`, and
`prefill=`, `guards=` and `seed=`. `stale=true` is the trap of vLLM's CPU build: oneDNN keeps a copy of the LM head,
which is not renewed with the weights. Ends with one line of JSON, or with the problems of an OpenR1Error and code 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from train_helpers import REWARD, make_prompt

from openr1.engines.vllm_program import Place
from openr1.errors import OpenR1Error
from openr1.metrics import MetricLog
from openr1.nodes.local import LocalNode
from openr1.rewards import ComposedReward
from openr1.stages.base import StageContext
from openr1.train.settings import GRPOSettings

TRAIN: dict[str, Any] = {
    "use_vllm": True, "per_device_train_batch_size": 16, "num_generations": 4, "max_completion_length": 12,
    "learning_rate": 1e-2, "lr_scheduler_type": "constant", "max_steps": 6, "save_steps": 2,
}  # fmt: skip


class EndingLog(MetricLog):
    """A metric log whose process is gone right after step `at`."""

    def __init__(self, path: Path, at: int) -> None:
        super().__init__(path)
        self.at = at

    def log(self, step: int, values: Any) -> None:
        super().log(step, values)
        if step == self.at:
            os._exit(9)


def stale_head() -> None:
    """oneDNN for the LM head only; elsewhere vLLM lets go of the weights, and a new set of them is refused."""
    import vllm._custom_ops as ops
    from vllm.model_executor.layers import utils

    plain = utils.dispatch_cpu_unquantized_gemm

    def dispatch(layer: Any, remove_weight: bool) -> None:
        ops._supports_onednn = not remove_weight
        plain(layer, remove_weight)
        ops._supports_onednn = False

    utils.dispatch_cpu_unquantized_gemm = dispatch


@contextmanager
def server_of(settings: GRPOSettings, model: Path, work: Path) -> Iterator[None]:
    """The server that the owner of a stage starts, where the settings ask for one."""
    from openr1.launch.serving import serving

    here, context = LocalNode(), StageContext("r", "grpo", work, settings, {}, MetricLog(work / "metrics.jsonl"))
    place = Place(here, []) if settings.own_server() else None
    with serving(context, model, work / "logs", here, place) as served:
        os.environ.update(served.environment)
        yield


def main(model: Path, work: Path, kill: int, given: dict[str, Any]) -> None:
    from openr1.train.grpo import run_grpo

    if given.pop("stale", False):
        stale_head()
    own: dict[str, Any] = {name: given.pop(name) for name in ("prefill", "guards") if name in given}
    seed = given.pop("seed", 3)
    settings = GRPOSettings(train=TRAIN | given, reward=REWARD, **own)
    with server_of(settings, model, work):
        result = run_grpo(
            model_dir=model,
            prompts=[make_prompt(a, b) for a in range(1, 9) for b in range(1, 9)],
            seed=seed,
            settings=settings,
            reward=ComposedReward(REWARD),
            out=work / "model",
            work=work,
            metrics=EndingLog(work / "metrics.jsonl", kill),
        )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    settings = {name: json.loads(value) for name, _, value in (word.partition("=") for word in sys.argv[4:])}
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), settings)
    except OpenR1Error as e:
        sys.exit(str(e))
