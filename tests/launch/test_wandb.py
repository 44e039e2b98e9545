"""Tracking with the real wandb client against a W&B that speaks the real protocol, well, dead, slow and dying."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from servers import Server, start

from openr1.manifest import Manifest
from openr1.metrics import MetricLog

pytestmark = pytest.mark.slow

STAGE = """
import json, sys, time
from pathlib import Path
from openr1.metrics import wandb_run
wandb_run.INIT_TIMEOUT, wandb_run.FINISH_TIMEOUT = {init}, {finish}
from openr1.config.recipe import load_run_yaml
from openr1.launch.tracking import finish_stage_tracker, open_stage_tracker
from openr1.log import setup_logging
from openr1.manifest import load_manifest
from openr1.metrics import MetricLog, TrackedTable
setup_logging()
run = Path(sys.argv[1])
recipe, manifest = load_run_yaml(run), load_manifest(run / "sft")
import wandb
began = time.monotonic()
tracker = open_stage_tracker(recipe, run, "sft", manifest)
opened = time.monotonic()
log = MetricLog(run / "sft" / "metrics.jsonl", tracker)
log.resume_from({resume})
for step in range({resume} + 1, {last} + 1):
    log.log(step, {{"loss": 1 / step, "kl": float("nan") if step == 3 else 0.5}})
    if step == {stop_at}:
        print("here", flush=True)
        sys.stdin.readline()
log.alert("guard entropy", "step 4: too low")
if {table}:
    tracker.describe([], [TrackedTable("completions", ["text"], [["x"]])])
logged = time.monotonic()
finish_stage_tracker(tracker, recipe, run, "sft", manifest)
print(json.dumps([opened - began, logged - opened, time.monotonic() - logged]))
"""


# every stage of a run that has a manifest, as `openr1 run` tracks it
STAGES = """
import sys
from pathlib import Path
from openr1.config.recipe import load_run_yaml
from openr1.launch.tracking import finish_stage_tracker, open_stage_tracker
from openr1.manifest import load_manifest
run = Path(sys.argv[1])
recipe = load_run_yaml(run)
for name in recipe.order():
    manifest = load_manifest(run / name)
    finish_stage_tracker(open_stage_tracker(recipe, run, name, manifest), recipe, run, name, manifest)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start("wandb_server") as server:
        yield server


@pytest.fixture
def wandb(server: Server) -> Server:
    server.heal()
    server.admin("clear")
    return server


def run_folder(folder: Path, mode: str) -> Path:
    """A run of which all has ended, from a dataset of the Hub to an evaluation: the manifests, and its samples."""
    from openr1.config import compose_recipe, validate

    recipe = validate({**compose_recipe("tiny_short", [f"track.mode={mode}"]), "run": "r"})
    folder.mkdir(parents=True, exist_ok=True)
    tree = recipe.model_dump(mode="json")
    tree["stages"] = {n: tree["stages"][n] for n in ("prompts", "sft", "evaluate_before")}
    (folder / "run.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    known: dict[str, Any] = {"key": "k", "status": "done", "git": {"commit": "c0ffee"}, "settings": {}}
    rows = {n: {"path": n, "kind": "prompts", "hash": h * 64, "rows": 9} for n, h in (("train", "a"), ("eval", "d"))}
    hub = {"sources": {"train": {"dataset": "org/data", "revision": "f00d"}}}
    Manifest("prompts", "prompts", outputs=rows, results=hub, **known).save(folder / "prompts")
    data = {"data": {"ref": "prompts/train", "hash": "a" * 64}}
    model = {"model": {"path": "model", "kind": "model", "hash": "b" * 64, "rows": None}}
    Manifest("sft", "sft", inputs=data, outputs=model, results={"steps": 6}, **known).save(folder / "sft")
    read = {"model": {"ref": "sft/model", "hash": "b" * 64}, "data": {"ref": "prompts/eval", "hash": "d" * 64}}
    samples = {"samples": {"path": "samples", "kind": "samples", "hash": "e" * 64, "rows": 200}}
    stage = Manifest("evaluate_before", "evaluate", inputs=read, outputs=samples, results={"cons": 0.5}, **known)
    stage.save(folder / "evaluate_before")
    table = [{"prompt_id": str(i), "completion": "x" * 5000, "status": "correct"} for i in range(200)]
    (folder / "evaluate_before" / "samples").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table), folder / "evaluate_before" / "samples" / "data-00000.parquet")
    return folder


def environment(url: str) -> dict[str, str]:
    return os.environ | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "local" + "0" * 40, "OMP_NUM_THREADS": "1"}


def script(**more: int) -> str:
    return STAGE.format(**({"init": 20, "finish": 60, "resume": 0, "last": 6, "stop_at": 0, "table": 0} | more))


def stage(run: Path, url: str, **more: int) -> tuple[list[float], str]:
    """[seconds to open, to log, to finish] and what the log said."""
    command = [sys.executable, "-c", script(**more), str(run)]
    done = subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def sync(run: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "openr1.cli", "sync", str(run), "--json"]
    return subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=200)


def history(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of metrics, without what differs by the clock."""
    rows = [{k: v for k, v in row.items() if k not in ("_timestamp", "_runtime")} for row in run["history"]]
    return [row for row in rows if "completions" not in row]


def only(wandb: Server, job: str = "sft") -> dict[str, Any]:
    (run,) = [r for r in wandb.admin("runs") if r["job_type"] == job]
    return dict(run)


def test_an_online_run_has_group_config_git_steps_alert_and_lineage(wandb: Server, tmp_path: Path) -> None:
    stage(run_folder(tmp_path / "r", "online"), wandb.url)
    run = only(wandb)
    assert (run["group"], run["job_type"], run["display_name"], run["state"]) == ("r", "sft", "r/sft", "finished")
    assert run["config"]["recipe"]["value"]["recipe"] == "tiny_short"
    assert run["config"]["train"]["value"]["learning_rate"] == 4e-3
    assert run["config"]["openr1"]["value"]["git"] == {"commit": "c0ffee"}
    assert [(r["_step"], r["step"], r["loss"]) for r in history(run)] == [(s, s, 1 / s) for s in range(1, 7)]
    assert "kl" not in history(run)[2] and history(run)[3]["kl"] == 0.5
    assert run["summary"]["steps"] == 6 and run["alerts"][0]["title"] == "guard entropy"
    data, model = sorted(wandb.admin("artifacts"), key=lambda a: a["type"])  # they are sent side by side
    assert (data["type"], data["name"], data["used_by"]) == ("dataset", "r-prompts-train", [run["name"]])
    assert (model["type"], model["name"], model["made_by"]) == ("model", "r-sft-model", run["name"])


def chain(wandb: Server) -> dict[str, tuple[str, str | None, list[str]]]:
    """Every artifact: its type, and the jobs that made it and that used it. What came from outside has no maker."""
    jobs = {r["name"]: r["job_type"] for r in wandb.admin("runs")}
    found = {}
    for one in [a for a in wandb.admin("artifacts") if a["type"] != "run_table"]:
        users = sorted({jobs[u] for u in one["used_by"]})
        made = jobs.get(one["made_by"])
        found[one["name"]] = (one["type"], None if made in users else made, users)
    return found


def test_dataset_model_and_evaluation_hang_together_online_and_synced(wandb: Server, tmp_path: Path) -> None:
    whole = {
        "org-data": ("dataset", None, ["prompts"]),
        "r-prompts-train": ("dataset", "prompts", ["sft"]),
        "r-prompts-eval": ("dataset", "prompts", ["evaluate_before"]),
        "r-sft-model": ("model", "sft", ["evaluate_before"]),
        "r-evaluate_before-samples": ("evaluation", "evaluate_before", []),
    }
    for mode in ("online", "offline"):
        run = run_folder(tmp_path / mode / "r", mode)
        url = wandb.url if mode == "online" else "http://127.0.0.1:9"
        command = [sys.executable, "-c", STAGES, str(run)]
        done = subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        if mode == "offline":
            assert wandb.admin("runs") == [] and sync(run, wandb.url).returncode == 0
        assert chain(wandb) == whole, mode
        wandb.admin("clear")


def test_offline_then_synced_equals_online_and_a_second_sync_sends_nothing(wandb: Server, tmp_path: Path) -> None:
    stage(run_folder(tmp_path / "on", "online"), wandb.url)
    online = only(wandb)
    wandb.admin("clear")
    offline = run_folder(tmp_path / "off", "offline")
    stage(offline, "http://127.0.0.1:9")
    assert wandb.admin("runs") == []
    done = sync(offline, wandb.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"]["sft"]["steps"] == 6
    synced = only(wandb)
    same = ("name", "group", "job_type", "display_name", "config", "state")
    without = {"_wandb", "openr1", "recipe", "_timestamp", "_runtime"}
    for key in same:
        a, b = online[key], synced[key]
        pairs = ({k: v for k, v in x.items() if k not in without} if isinstance(x, dict) else x for x in (a, b))
        assert len({json.dumps(p, sort_keys=True) for p in pairs}) == 1, key
    assert history(synced) == history(online)
    assert sync(offline, wandb.url).returncode == 0
    assert history(only(wandb)) == history(online)
    evaluated = only(wandb, "evaluate_before")
    assert evaluated["summary"]["completions"]["nrows"] == 64
    (model,) = [a for a in wandb.admin("artifacts") if a["name"] == "r-sft-model"]
    assert model["made_by"] == synced["name"] and set(model["used_by"]) == {evaluated["name"]}


def test_killed_and_requeued_it_is_one_run_with_every_step_once(wandb: Server, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "r", "online")
    command = [sys.executable, "-c", script(stop_at=5), str(run)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, env=environment(wandb.url), **pipes)
    assert first.stdout is not None and first.stdout.readline() == "here\n"
    deadline = time.monotonic() + 60
    while len(only(wandb)["history"]) < 4 and time.monotonic() < deadline:  # the last step waits for the next one
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(2)  # W&B's own process finds its parent gone
    stage(run, wandb.url, resume=2, last=8)
    again = only(wandb)
    assert again["starts"] >= 2 and again["state"] == "finished"
    assert [(r["_step"], r["loss"]) for r in history(again)] == [(s, 1 / s) for s in range(1, 9)]


@pytest.mark.parametrize("kind", ["closed", "hang", 500, "reset"])
def test_dead_at_the_start_it_is_offline_in_time_and_says_what_to_do(
    wandb: Server, tmp_path: Path, kind: str | int
) -> None:
    if kind != "closed":
        wandb.fault(kind, ".*", times=100_000, seconds=300)
    run = run_folder(tmp_path / "r", "online")
    (opened, logged, finished), said = stage(run, "http://127.0.0.1:9" if kind == "closed" else wandb.url, init=5)
    assert opened < 5 + 25 and logged < 10 and finished < 20
    assert f"tracked offline, send it with: openr1 sync {run}" in said.replace("\n", " ")
    wandb.heal()
    assert sync(run, wandb.url).returncode == 0 and len(history(only(wandb))) == 6


@pytest.mark.parametrize("kind", ["hang", 500])
def test_dying_in_the_middle_costs_no_step_and_is_said_at_the_end(
    wandb: Server, tmp_path: Path, kind: str | int
) -> None:
    run = run_folder(tmp_path / "r", "online")
    command = [sys.executable, "-c", script(finish=5, last=200, stop_at=2, table=int(kind == "hang")), str(run)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment(wandb.url), text=True, **pipes)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    wandb.fault(kind, ".*", times=100_000, seconds=300)
    out, said = process.communicate("\n", timeout=180)
    opened, logged, finished = json.loads(out.splitlines()[-1])
    assert process.returncode == 0 and logged + finished < 5 + 35
    assert "did not take everything within 5 s" in said and f"openr1 sync {run}" in said.replace("\n", " ")
    wandb.heal()
    assert sync(run, wandb.url).returncode == 0
    assert [r["_step"] for r in history(only(wandb))] == list(range(1, 201))


def test_a_slow_server_delays_no_step(wandb: Server, tmp_path: Path) -> None:
    wandb.fault("slow", "file_stream", times=100_000, seconds=2)
    (_, logged, finished), _ = stage(run_folder(tmp_path / "r", "online"), wandb.url, last=300)
    assert logged < 15 and finished < 60
    assert len(history(only(wandb))) == 300


def test_what_cannot_be_synced_is_one_line(wandb: Server, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "r", "offline")
    MetricLog(run / "sft" / "metrics.jsonl").log(1, {"loss": 1.0})
    no_key = {k: v for k, v in environment(wandb.url).items() if k != "WANDB_API_KEY"} | {"HOME": str(tmp_path)}
    for env, code, words in ((no_key, 1, "wandb login"), (environment("http://127.0.0.1:9"), 3, "does not answer")):
        done = subprocess.run(
            [sys.executable, "-m", "openr1.cli", "sync", str(run)],
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("openr1:")]
        assert done.returncode == code and len(lines) == 1 and words in lines[0], done.stderr
