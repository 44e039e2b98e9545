"""The sbatch files, without a Slurm: golden files, what bash and shellcheck say of them, containers, odd names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from openr1.config.cluster import ClusterSettings
from openr1.config.recipe import Recipe
from openr1.launch.slurm.jobs import Job, shard_jobs, stage_job, whole_stage
from openr1.launch.slurm.render import PLACES, render
from openr1.launch.words import compose
from openr1.paths import data_dir

GOLDEN = Path(__file__).parent / "golden"
SITES = sorted(p.stem for p in (data_dir("recipes") / "cluster").glob("*.yaml") if p.stem != "local")
CASES = [*(("tiny_generate", site) for site in SITES), ("r1_qwen2_5_7b", "slurm_h100_8")]
NEXT = "\n" + "=" * 40 + "\n"


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe], dict[str, str]]:
    """Every script of a recipe as one would get it in /site, by stage and file name."""
    monkeypatch.chdir(tmp_path)
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)

    def written(recipe: Recipe) -> dict[str, str]:
        jobs = [job for name in recipe.order() for job in whole_stage(recipe, name)]
        return {f"{job.stage}/{job.script}": placed(render(recipe, Path("runs") / recipe.run, job)) for job in jobs}

    def placed(text: str) -> str:
        return text.replace(str(tmp_path.resolve()), "/site").replace(sys.executable, "/opt/openr1/bin/python")

    return written


@cache
def recipe_on(name: str, site: str, *words: str) -> Recipe:
    return compose([f"recipe={name}", f"cluster={site}", *words])[0]


def on(recipe: Recipe, **changes: Any) -> Recipe:
    site = ClusterSettings.model_validate(recipe.cluster.model_dump() | changes)
    return recipe.model_copy(update={"cluster": site})


@pytest.mark.parametrize(("name", "site"), CASES)
def test_the_scripts_of_a_recipe_are_those_that_were_read(
    name: str, site: str, scripts: Callable[[Recipe], dict[str, str]]
) -> None:
    """OPENR1_WRITE_GOLDEN=1 writes the files anew; read what changed."""
    text = NEXT.join(f"{where}\n{script}" for where, script in scripts(recipe_on(name, site)).items())
    path = GOLDEN / f"{name}.{site}.txt"
    if os.environ.get("OPENR1_WRITE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


ODD = {
    "modules": ["cuda/12.4", "a b"],
    "setup": ["ulimit -n 65536"],
    "environment": {"NAME": 'it\'s $HOME "here" #1'},
    "sbatch": ["--reservation=week", "--mail-type=FAIL"],
    "constraint": "ib&gpu",
    "shards_at_once": 2,
    "internet": False,
}
BOXES: list[dict[str, Any]] = [
    {},
    ODD,
    {
        "container": {"kind": "apptainer", "image": "/images/open r1.sif", "options": ["--cleanenv"]},
        "mounts": ["/data"],
    },
    {"container": {"kind": "pyxis", "image": "org/openr1:1"}, "mounts": ["/data:/mnt/data"]},
]


@pytest.mark.parametrize("changes", BOXES, ids=["bare", "odd", "apptainer", "pyxis"])
def test_bash_and_shellcheck_find_nothing(
    changes: dict[str, Any], tmp_path: Path, scripts: Callable[[Recipe], dict[str, str]]
) -> None:
    paths = []
    for name, site in CASES if not changes else CASES[-2:]:
        sharded = recipe_on(name, site, "stages.generate.resources.shards=3")
        for where, text in scripts(on(sharded, **changes)).items():
            path = tmp_path / f"{name}.{site}.{where.replace('/', '.')}"
            path.write_text(text)
            paths.append(str(path))
    for path in paths:
        assert subprocess.run(["bash", "-n", path], capture_output=True).stderr == b""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    literally = "--exclude=SC2016"  # what a site's environment says is exported as it stands there
    done = subprocess.run(["shellcheck", literally, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def lines(recipe: Recipe, job: Job, folder: Path = Path("runs/r")) -> list[str]:
    return render(recipe, folder, job).splitlines()


def option(text: list[str], name: str) -> str:
    return next(line.partition("=")[2] for line in text if line.startswith(f"#SBATCH --{name}="))


def test_a_job_asks_for_its_share_of_a_node() -> None:
    recipe = recipe_on(
        "r1_qwen2_5_7b", "slurm_h100_8", "stages.sft.resources.gpus=2", "stages.sft.resources.time=90:00"
    )
    text = lines(recipe, stage_job(recipe, "sft"))
    assert option(text, "gres") == "gpu:h100:2" and option(text, "cpus-per-task") == "24"
    assert option(text, "mem") == "240G" and option(text, "time") == "3-18:00:00"
    plain = lines(recipe, stage_job(recipe, "curate"))
    assert not any("gres" in line for line in plain) and option(plain, "cpus-per-task") == "16"
    assert option(plain, "time") == "1-00:00:00"


def test_shards_are_a_throttled_array_that_one_job_puts_together() -> None:
    recipe = on(recipe_on("r1_qwen2_5_7b", "slurm_h100_8", "stages.generate.resources.shards=6"), shards_at_once=2)
    array, merge = shard_jobs(recipe, "generate", [0, 1, 2, 5], ["prompts"])
    text = lines(recipe, array)
    assert option(text, "array") == "0-2,5%2" and option(text, "gres") == "gpu:h100:8"
    assert "shard=$SLURM_ARRAY_TASK_ID/6" in text and option(text, "output").endswith("/%A_%a.log")
    assert array.gpu_hours == 4 * 8 * 24 and merge.gpu_hours == 0
    assert not any("array" in line or "gres" in line for line in lines(recipe, merge) if line.startswith("#SBATCH"))
    assert [job.part for job in shard_jobs(recipe, "generate", [])] == ["merge"]


def test_names_with_spaces_quotes_and_percent_signs_reach_slurm_whole(tmp_path: Path) -> None:
    recipe = recipe_on("tiny_generate", "test").model_copy(update={"run": 'my "50%" run'})
    text = lines(recipe, stage_job(recipe, "sft"), tmp_path / 'my "50%" run')
    assert option(text, "job-name") == r'"my \"50%\" run.sft"'
    assert option(text, "output").endswith(r'/my \"50%%\" run/sft/logs/slurm/%j.log"')


def test_offline_nodes_are_told_so_and_secrets_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    recipe = recipe_on("tiny_generate", "test")
    text = "\n".join(lines(on(recipe, internet=False), stage_job(recipe, "sft")))
    for said in ("export HF_HUB_OFFLINE=1", "export WANDB_MODE=offline", "export HF_HOME=/shared/hf"):
        assert said in text
    assert "hf_secret" not in text
    assert "OFFLINE" not in "\n".join(lines(recipe, stage_job(recipe, "sft")))


def test_containers_see_the_run_the_caches_and_what_the_site_says(
    scripts: Callable[[Recipe], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    recipe = recipe_on("tiny_generate", "test")
    apptainer = scripts(on(recipe, **BOXES[2]))["sft/job.sbatch"]
    assert "--bind /shared/hf:/shared/hf" in apptainer and "--bind /data:/data" in apptainer
    assert "apptainer exec --nv" in apptainer and "'/images/open r1.sif' python3 -m openr1.launch.node" in apptainer
    pyxis = scripts(on(recipe, **BOXES[3]))["sft/job.sbatch"]
    assert "--container-image=org/openr1:1" in pyxis and "/data:/mnt/data" in pyxis
