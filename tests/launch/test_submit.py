"""`openr1 submit` without a Slurm: dry runs, sweeps, refusals before anything is queued. The rest is tests/slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openr1.cli import run_cli
from openr1.errors import UserError
from openr1.launch.slurm.sweep import sweep_points

DRY = ["submit", "--dry-run", "--json"]


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Slurm's commands; the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return tmp_path


def submit(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object], str]:
    """Exit code, JSON and what a person reads."""
    code = run_cli(list(words))
    out = capsys.readouterr()
    return code, json.loads(out.out), out.err


def test_a_dry_run_writes_what_would_be_submitted(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, said = submit(capsys, *DRY, "recipe=tiny_generate", "cluster=test")
    assert code == 0 and found["submitted"] is False
    assert "not checked: what the site has" in said
    jobs = found["jobs"]
    assert [job["stage"] for job in jobs][:2] == ["prompts", "sft"] and all(job["job"] is None for job in jobs)
    assert next(job for job in jobs if job["stage"] == "verify")["after"] == ["prompts", "generate"]
    for job in jobs:
        assert Path(job["script"]).read_text().startswith("#!/bin/bash\n# tiny_generate: stage ")
    assert (no_slurm / "runs/tiny_generate/run.yaml").is_file()
    assert submit(capsys, *DRY, "recipe=tiny_generate", "cluster=test")[0] == 0  # the folder is a run's


def test_what_a_big_recipe_may_cost(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("recipe=r1_qwen2_5_7b", "cluster=slurm_h100_8", "stages.generate.resources.shards=4")
    code, found, _ = submit(capsys, *DRY, *words)
    assert code == 0
    assert found["gpu_hours"] == 8 * 24 * (4 + 4) and found["usd"] == found["gpu_hours"] * 2
    parts = [job["part"] for job in found["jobs"] if job["stage"] == "generate"]
    assert parts == ["shards", "merge"]


def test_the_jobs_of_shards_have_names_of_their_own(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recipe=tiny_generate", "cluster=test", "stages.generate.resources.shards=8", "cluster.shards_at_once=3"]
    assert run_cli([*DRY[:2], *words]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    (array,) = [line for line in lines if line.startswith("generate.shards ")]
    (merge,) = [line for line in lines if line.startswith("generate.merge ")]
    assert "array 0-7%3, after sft, prompts" in array
    assert merge.endswith("puts the shards together, after sft, prompts, generate.shards")
    assert any("squeue calls them tiny_generate.NAME" in line and "shards.sbatch" in line for line in lines)
    folder = no_slurm / "runs/tiny_generate/generate"
    for file, name in (("shards.sbatch", "generate.shards"), ("job.sbatch", "generate.merge")):
        assert f"#SBATCH --job-name=tiny_generate.{name}\n" in (folder / file).read_text()


def test_nothing_of_slurm_is_here(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = submit(capsys, "submit", "--json", "recipe=tiny_generate", "cluster=test")
    assert code == 3
    assert found["problems"] == ["squeue: not found; submit from a login node of the cluster, where Slurm is"]
    assert not (no_slurm / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cluster=local"], "cluster=local is this machine; submit to a Slurm site"),
        (["cluster=test", "stages.sft.resources.gpus=9"], "needs 9 GPUs on a node, cluster test has 8"),
        (["cluster=test", "stages.sft.train.learning_rte=1"], "did you mean learning_rate"),
        (["cluster=test", "stages.sft.resources.shards=2"], "a sft stage has none, only generate has"),
        (["cluster=test", "shard=0/2"], "submit makes the shards"),
        (["cluster=test", "cluster.time=soon"], "is no time limit; write hours:minutes:seconds"),
        (["cluster=test", "cluster.mounts=[/data]"], "mounts are what a container sees, and there is none"),
        (["cluster=test", "cluster.environment={a-b: c}"], "'a-b' is no name of a variable"),
        (["cluster=test", "cluster.sbatch=[exclusive]"], "is no option of sbatch"),
        (["cluster=test", "seed=range(0,20)"], "the sweep has 20 points, cluster.max_points allows 16"),
        (["cluster=test", "seed=interval(0,1)"], "only lists of values can be swept"),
    ],
)
def test_one_line_for_every_mistake(
    words: list[str], said: str, no_slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = submit(capsys, *DRY, "recipe=tiny_generate", *words)
    assert code == 1 and len(found["problems"]) == 1
    assert said in found["problems"][0]
    assert not (no_slurm / "runs").exists()


def test_a_sweep_is_a_run_for_every_point(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("recipe=tiny_generate", "cluster=test", "seed=1,2", "stages.sft.train.learning_rate=1e-3,2e-3")
    code, found, _ = submit(capsys, *DRY, *words)
    assert code == 0
    names = [run["run"] for run in found["runs"]]
    assert names == [f"tiny_generate-seed-{s}-learning_rate-{r}" for s in (1, 2) for r in ("0.001", "0.002")]
    text = (no_slurm / "runs" / names[3] / "run.yaml").read_text()
    assert "learning_rate: 0.002" in text and "seed: 2" in text


def test_points_of_a_sweep_have_names_of_their_own() -> None:
    rates = ["stages.a.lr=1,2", "stages.b.lr=1,2"]
    assert sweep_points(rates, "r")[1][0] == "r-stages.a.lr-1-stages.b.lr-2"
    assert sweep_points(["x=[1,2]", "~stages.a", "+y=a b"], "r") == [("r", ["x=[1,2]", "~stages.a", "+y=a b"])]
    with pytest.raises(UserError, match="two points of the sweep would be called r-x-a-b"):
        sweep_points(["x='a b','a/b'"], "r")


def test_status_and_cancel_of_a_run_that_has_no_jobs(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submit(capsys, *DRY, "recipe=tiny_generate", "cluster=test")
    code, found, _ = submit(capsys, "cancel", "--json", "tiny_generate")
    assert code == 0 and found["cancelled"] == {}
    code, found, _ = submit(capsys, "status", "--json", "tiny_generate")
    assert code == 0 and {s["state"] for s in found["stages"]} == {"waiting"} and found["slurm_problem"] is None


def test_stages_that_are_off_are_told_beside_those_of_the_run(
    no_slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(capsys, *DRY, "recipe=tiny_short", "cluster=test")
    code, found, _ = submit(capsys, "status", "--json", "tiny_short")
    assert code == 0 and {s["state"] for s in found["stages"]} == {"waiting"}
    assert set(found["off"]) == {"publish_dataset", "publish_model"}


def test_fetch_says_what_cannot_be_had_and_what_is_not_needed(tmp_path: Path) -> None:
    def fetch(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
        command = [sys.executable, "-m", "openr1.cli", "fetch", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)

    none = fetch("recipe=tiny_generate", "--json")
    assert none.returncode == 0 and json.loads(none.stdout) == {"recipe": "tiny_generate", "fetched": []}
    failed = fetch("recipe=r1_zero_qwen2_5_math_1_5b")
    assert failed.returncode == 3
    assert "is not in the cache and the Hub cannot be reached" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_several_benchmarks_are_one_evaluation(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("recipe=evaluate", "model=Qwen/Qwen2.5-7B-Instruct", "benchmark=aime24,math_500", "cluster=slurm_h100_8")
    code, found, _ = submit(capsys, *DRY, *words)
    assert code == 0 and str(found["run"]).startswith("evaluate-Qwen2.5-7B-Instruct-")


def test_a_site_file_of_ones_own_is_enough(no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = no_slurm / "recipes" / "cluster" / "our.yaml"
    site.parent.mkdir(parents=True)
    site.write_text("defaults: [slurm_h100_8, _self_]\nname: our\npartition: big\nsetup: [source env.sh]\n")
    code, found, said = submit(capsys, *DRY, "recipe=r1_zero_qwen2_5_7b", "cluster=our")
    assert code == 0, said
    script = Path(found["jobs"][-1]["script"]).read_text()
    assert "#SBATCH --partition=big" in script
    assert script.index("set +u") < script.index("source env.sh") < script.rindex("set -u")
