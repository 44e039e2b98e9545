"""What tracking on W&B costs a training step when its server is well, dead, dying or slow.

Steps of `tiny_r1` as `openr1 run` takes them, SFT (pre-training of its base) and GRPO (R1-Zero from that base), each
way in a process of its own and in turns, against the test W&B of `tests/servers`:

    offline      W&B's files in the run's folder: what the others are held against
    online       a server that is well
    dead         no server at the start
    dying        the server is killed at the end of step WARM
    slow         every upload of metrics is answered after 2 seconds

`ratio` is core-seconds a step of the whole process tree, W&B's own process included, over those of `offline` of the
same round, from the end of step WARM to the end of the last; what the start and the end of a run take is left out.
Core-seconds of equal work differ by some percent on a shared machine, so the share of tracking is also counted by
itself: the CPU time of W&B's process, of its threads here and of our calls to it. The goal is 2% of the step.

    python benchmarks/tracking.py [--rounds 3] [--sft-steps 150] [--grpo-steps 8] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

GOAL = 0.02
WARM = 2
WAYS = ("offline", "online", "dead", "dying", "slow")
NOWHERE = "http://127.0.0.1:9"
STAGES = {"sft": "base", "grpo": "r1_zero"}
HERE = Path(__file__).resolve()
TESTS = HERE.parents[1] / "tests"


def settings(folder: Path, steps: dict[str, int]) -> list[str]:
    """Words of `tiny_r1`: so many steps of both stages, no checkpoints and no probes among them."""
    words = ["recipe=tiny_r1", f"run={folder / 'r'}"]
    for kind, stage in STAGES.items():
        train = f"stages.{stage}.train"
        words += [f"{train}.max_steps={steps[kind]}", f"{train}.save_steps=1000000"]
    return [*words, "stages.r1_zero.probes=null", "~stages.r1_zero.inputs.probes"]


# ------------------------------------------------------------------------------------------------------- one process
class Marks:
    """Core-seconds at the end of the steps WARM and `last`: of the process tree, and of tracking alone."""

    def __init__(self, last: int) -> None:
        self.last, self.calls = last, 0.0
        self.at: dict[int, tuple[float, float]] = {}

    def step(self, number: int) -> None:
        if number in (WARM, self.last):
            self.at[number] = self._now()

    def _now(self) -> tuple[float, float]:
        import psutil

        me = psutil.Process()
        children = [(c.name(), sum(c.cpu_times()[:2])) for c in me.children(recursive=True)]
        threads = {t.native_id for t in threading.enumerate() if "wandb" in t.name.lower()}
        here = sum(t.user_time + t.system_time for t in me.threads() if t.id in threads)
        of_wandb = sum(seconds for name, seconds in children if "wandb" in name)
        total = sum(me.cpu_times()[:2]) + sum(seconds for _, seconds in children)
        return total, of_wandb + here + self.calls

    def each(self) -> dict[str, float]:
        total, own = (b - a for a, b in zip(self.at[WARM], self.at[self.last], strict=True))
        return {"step": total / (self.last - WARM), "tracking": own / (self.last - WARM)}


def one(kind: str, way: str, folder: Path, last: int) -> dict[str, float]:
    """A stage from its start to its end, in this process."""
    from openr1.config.recipe import load_run_yaml
    from openr1.launch.engine import run_stage
    from openr1.launch.plan import Step
    from openr1.metrics import MetricLog, SafeTracker, wandb_run

    wandb_run.INIT_TIMEOUT, wandb_run.FINISH_TIMEOUT, wandb_run.GRACE = 3, 2, 1
    marks, log, track = Marks(last), MetricLog.log, SafeTracker.log

    def counted(self: SafeTracker, step: int, values: Any) -> None:
        began = time.thread_time()
        track(self, step, values)
        marks.calls += time.thread_time() - began

    def marked(self: MetricLog, step: int, values: Any) -> None:
        log(self, step, values)
        if step == WARM and way == "dying":
            os.kill(int(os.environ["SERVER"]), 9)
        marks.step(step)

    SafeTracker.log, MetricLog.log = counted, marked  # type: ignore[method-assign]
    recipe = load_run_yaml(folder / "r")
    mode = "offline" if way == "offline" else "online"
    recipe = recipe.model_copy(update={"track": recipe.track.model_copy(update={"mode": mode})})
    run_stage(recipe, folder / "r", Step(STAGES[kind], "run", "to be measured", aside=True))
    return marks.each()


# ---------------------------------------------------------------------------------------------------------- in turns
def measured(kind: str, way: str, folder: Path, last: int) -> dict[str, float]:
    """One way in a process of its own. Raises RuntimeError, with what it said last, if it fails."""
    sys.path.insert(0, str(TESTS))
    from servers import start

    with start("wandb_server") as server:
        if way == "slow":
            fault = {"kind": "slow", "path": "file_stream", "method": ".*", "times": 10**6, "seconds": 2}
            urllib.request.urlopen(f"{server.url}/_admin/fault", data=json.dumps(fault).encode(), timeout=10).close()
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "WANDB_BASE_URL": NOWHERE if way == "dead" else server.url,
            "WANDB_API_KEY": "local" + "0" * 40, "SERVER": str(server.process.pid),
        }  # fmt: skip
        command = [sys.executable, str(HERE), "--one", f"{kind},{way}", "--folder", str(folder), "--steps", str(last)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{kind}, {way} failed: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(kind: str, folder: Path, last: int, rounds: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            found[way].append(measured(kind, way, folder, last))
    told = {}
    for way, rows in found.items():
        ratios = sorted(r["step"] / o["step"] for r, o in zip(rows, found["offline"], strict=True))
        step, own = (statistics.median(r[key] for r in rows) for key in ("step", "tracking"))
        shares = sorted(r["tracking"] / r["step"] for r in rows)
        told[way] = {"step": step, "tracking": own, "shares": shares, "ratios": ratios}
        print(
            f"{kind:<5}{way:<9}{step:7.3f} core-seconds a step, ratio {statistics.median(ratios):.3f} "
            f"[{ratios[0]:.3f}, {ratios[-1]:.3f}]; of it tracking {own * 1000:6.2f} ms = {own / step:.2%} "
            f"[{shares[0]:.2%}, {shares[-1]:.2%}]",
            flush=True,
        )
    return told


def prepare(folder: Path, steps: dict[str, int]) -> None:
    """The recipe as composed, its prompts, and the base that GRPO begins from."""
    words = [*settings(folder, steps), "track.mode=off", f"stages=[prompts,{STAGES['sft']}]"]
    command = [sys.executable, "-m", "openr1.cli", "run", *words]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the start could not be made: {done.stderr[-3000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sft-steps", type=int, default=150)
    parser.add_argument("--grpo-steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    for name in ("--one", "--folder", "--steps"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, way = args.one.split(",")
        print(json.dumps(one(kind, way, Path(args.folder), int(args.steps))))
        return
    steps = {"sft": args.sft_steps, "grpo": args.grpo_steps}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), steps)
        told = {kind: compare(kind, Path(folder), last, args.rounds) for kind, last in reversed(steps.items())}
    worst = max(max(way["shares"]) for ways in told.values() for way in ways.values())
    print(f"tracking takes at most {worst:.2%} of a step's core-seconds (goal {GOAL:.0%})")
    if args.json:
        args.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
