"""A job as the sbatch file that a person can read, change and submit: slurm/job.sbatch.j2, filled in."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from openr1.config.cluster import ClusterSettings
from openr1.config.recipe import Recipe
from openr1.launch.slurm.jobs import Job, array_text, limit_text
from openr1.paths import cache_dir, data_dir

TEMPLATE = "job.sbatch.j2"
LAUNCHER = "openr1.launch.node"
# where things lie for the person who submits; a job says it in its file, so that it does not hang on their shell
PLACES = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ENDPOINT", "OPENR1_CACHE", "OPENR1_DATA_DIR",
          "OPENR1_VLLM", "WANDB_BASE_URL")  # fmt: skip
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "offline"}


def render(recipe: Recipe, folder: Path, job: Job) -> str:
    """The text of the job's sbatch file; `folder` is the run's."""
    import jinja2

    loader = jinja2.FileSystemLoader(data_dir("slurm"))
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["q"] = lambda value: shlex.quote(str(value))
    return environment.get_template(TEMPLATE).render(_values(recipe, folder.absolute(), job))


def _values(recipe: Recipe, folder: Path, job: Job) -> dict[str, Any]:
    site = recipe.cluster
    what = {"stage": "", "shards": f", {len(job.tasks)} of {job.shards} shards", "merge": ", its shards put together"}
    return {
        "title": f"{_one_line(recipe.run)}: stage {job.stage} ({job.kind}{what[job.part]})",
        "asks": asks(job, site),
        "options": [_option(name, value) for name, value in options(recipe, folder, job)] + list(site.sbatch),
        "run": folder,
        "stage": job.stage,
        "exclude": shlex.quote(f"{site.exclude},") if site.exclude and job.gpus else "",
        "folder": Path.cwd(),
        "modules": site.modules,
        "setup": site.setup,
        "environment": exported(site),
        "nodes": job.nodes,
        "cpus": job.cpus,
        "shards": job.shards if job.part == "shards" else None,
        "launcher": launcher(site, folder, job.stage),
    }


def asks(job: Job, site: ClusterSettings) -> str:
    """What the job asks for, in words."""
    nodes = f"{job.nodes} node{'s' * (job.nodes > 1)}"
    gpus = f" x {job.gpus} {site.gpu or 'GPU'}" if job.gpus else ", no GPU"
    tasks = f"{len(job.tasks)} x " if job.tasks else ""
    return f"{tasks}{nodes}{gpus}, at most {limit_text(job.minutes)} (days-hours:minutes:seconds) an attempt"


def options(recipe: Recipe, folder: Path, job: Job) -> list[tuple[str, str | None]]:
    """The options of sbatch by name; None for one without a value. What it waits for is said when it is submitted."""
    site = recipe.cluster
    output = f"{folder}/{job.stage}/logs/slurm/{'%A_%a' if job.tasks else '%j'}.log"
    gres = f"gpu:{site.gpu_type}:{job.gpus}" if site.gpu_type else f"gpu:{job.gpus}"
    found: list[tuple[str, str | None]] = [
        ("job-name", f"{_one_line(recipe.run)}.{job.name}"),
        ("comment", comment(folder, job.stage, job.part)),
        *((name, value) for name, value in _placed(job, site) if value is not None),
        ("nodes", str(job.nodes)),
        ("ntasks-per-node", "1"),
        ("cpus-per-task", str(job.cpus)),
        *([("mem", f"{job.memory_gib}G")] if job.memory_gib else []),
        *([("gres", gres)] if job.gpus else []),
        ("time", limit_text(job.minutes)),
        *([("array", array_text(job.tasks, site.shards_at_once))] if job.tasks else []),
        ("requeue", None),
        ("signal", f"B:USR1@{site.signal_lead_s}"),
        ("kill-on-invalid-dep", "yes"),
        ("open-mode", "append"),
        ("output", output.replace(str(folder), str(folder).replace("%", "%%"))),
    ]
    return found


def _placed(job: Job, site: ClusterSettings) -> list[tuple[str, str | None]]:
    on_gpu = [("constraint", site.constraint), ("exclude", site.exclude)] if job.gpus else []
    return [("partition", job.partition), ("account", job.account), ("qos", job.qos), *on_gpu]


def comment(folder: Path, stage: str, part: str) -> str:
    """What squeue shows of a job of ours: by it a run finds its jobs again, whatever became of the submitting end."""
    return f"openr1:{stage}:{part}:{folder}"


def _option(name: str, value: str | None) -> str:
    if value is None:
        return f"--{name}"
    plain = not any(c.isspace() or c in "\"'\\#" for c in value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f"--{name}={value}" if plain else f'--{name}="{escaped}"'


def _one_line(run: str) -> str:
    return run.rstrip("/").rpartition("/")[2]


def exported(site: ClusterSettings) -> dict[str, str]:
    """What a job exports: where caches lie, the interface to talk over, offline or not; the site has the last word."""
    found = {name: os.environ[name] for name in PLACES if os.environ.get(name)}
    if site.network_interface:
        found |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), site.network_interface)
    return found | ({} if site.internet else OFFLINE) | site.environment


def launcher(site: ClusterSettings, folder: Path, stage: str) -> str:
    """The words after srun's own: the container where there is one, Python, the run's folder and the stage."""
    box = site.container
    python = site.python or (sys.executable if box is None else "python3")
    words = [python, "-m", LAUNCHER, str(folder), stage]
    if box is None:
        return shlex.join(words)
    mounts, here = _mounts(site, folder), str(Path.cwd())
    if box.kind == "apptainer":
        binds = [word for mount in mounts for word in ("--bind", mount)]
        return shlex.join(["apptainer", "exec", "--nv", *binds, "--pwd", here, *box.options, box.image, *words])
    inside = [f"--container-image={box.image}", f"--container-mounts={','.join(mounts)}"]
    return shlex.join([*inside, f"--container-workdir={here}", "--no-container-mount-home", *box.options, *words])


def _mounts(site: ClusterSettings, folder: Path) -> list[str]:
    """The working folder, the run, the caches, and what the site says, as FROM:TO."""
    hub = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    places = [str(Path.cwd()), str(folder), str(cache_dir()), hub]
    own = [m if ":" in m else f"{m}:{m}" for m in site.mounts]
    return list(dict.fromkeys([*(f"{p}:{p}" for p in places), *own]))
