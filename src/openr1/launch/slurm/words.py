"""What `openr1 submit` says to a person: one line a job, what it may cost, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openr1.launch.slurm.jobs import limit_text


def submit_lines(found: dict[str, Any]) -> Iterator[str]:
    """The lines for one run, of what `Prepared.document` holds."""
    jobs = found["jobs"]
    state = "" if found["submitted"] else ", nothing submitted (--dry-run)"
    yield f"{found['run']} on {found['cluster']}: {len(jobs)} jobs{state}"
    width = max((len(j["name"]) for j in jobs), default=0)
    parts = {(j["stage"], j["part"]) for j in jobs}
    for job in jobs:
        own = [f"{job['stage']}.shards"] if job["part"] == "merge" and (job["stage"], "shards") in parts else []
        yield f"  {job['name']:<{width}}  {_job(job, [*job['after'], *own])}"
    if found["queued"]:
        there = ", ".join(f"{name} ({', '.join(ids[:3])})" for name, ids in found["queued"].items())
        yield f"  in the queue already: {there}"
    if found["done"]:
        yield f"  done already: {', '.join(found['done'])}"
    if jobs:
        yield f"  {_cost(found)}"
        yield f"  squeue calls them {found['run']}.NAME; {_files(found)}"
    yield f"  openr1 status {found['run']} says how it goes"


def _job(job: dict[str, Any], after: list[str]) -> str:
    gpus = f" x {job['gpus']} GPUs" if job["gpus"] else ""
    tasks = f"{job['tasks']} x " if job["tasks"] else ""
    number = f"job {job['job']:<8}" if job["job"] else f"{'-':<4}"
    nodes = f"{tasks}{job['nodes']} node{'s' * (job['nodes'] > 1)}{gpus}"
    part = {"stage": "", "shards": f", array {job['array']}", "merge": ", puts the shards together"}[job["part"]]
    waits = f", after {', '.join(after)}" if after else ""
    return f"{number} {nodes:<20} at most {limit_text(job['minutes'])}{part}{waits}"


def _files(found: dict[str, Any]) -> str:
    names = dict.fromkeys(j["script"].rpartition("/")[2] for j in found["jobs"])
    return f"files: {found['path']}/STAGE/{', '.join(names)}"


def _cost(found: dict[str, Any]) -> str:
    if not found["gpu_hours"]:
        return "no GPU is asked for"
    usd = f", {found['usd']:,.0f} USD" if found["usd"] is not None else ""
    more = f"; each time that a job goes back into the queue (at most {found['requeues']}) may add as much as it took"
    return f"at most {found['gpu_hours']:,.0f} GPU-hours{usd}{more if found['requeues'] else ''}"
