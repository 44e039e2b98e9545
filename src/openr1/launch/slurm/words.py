"""What `openr1 submit` says to a person: one line a job, what it may cost, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openr1.launch.slurm.jobs import limit_text


def submit_lines(found: dict[str, Any], internet: bool = True) -> Iterator[str]:
    """The lines for one run, of what `Prepared.document` holds."""
    jobs = found["jobs"]
    state = "" if found["submitted"] else ", nothing submitted (--dry-run)"
    yield f"{found['run']} on {found['cluster']}: {len(jobs)} jobs{state}"
    width = max((len(j["stage"]) for j in jobs), default=0)
    for job in jobs:
        yield f"  {job['stage']:<{width}}  {_job(job)}"
    if found["queued"]:
        there = ", ".join(f"{name} ({', '.join(ids[:3])})" for name, ids in found["queued"].items())
        yield f"  in the queue already: {there}"
    if found["done"]:
        yield f"  done already: {', '.join(found['done'])}"
    if jobs:
        yield f"  {_cost(found)}"
    yield f"  files: {found['path']}/STAGE/job.sbatch; openr1 status {found['run']} says how it goes"


def _job(job: dict[str, Any]) -> str:
    part = {"stage": "", "shards": f" ({job['tasks']} shards)", "merge": " (its shards put together)"}[job["part"]]
    gpus = f" x {job['gpus']} GPUs" if job["gpus"] else ""
    tasks = f"{job['tasks']} x " if job["tasks"] else ""
    number = f"job {job['job']:<8}" if job["job"] else f"{'-':<4}"
    nodes = f"{tasks}{job['nodes']} node{'s' * (job['nodes'] > 1)}{gpus}"
    waits = f", after {', '.join(job['after'])}" if job["after"] else ""
    return f"{number} {nodes:<20} at most {limit_text(job['minutes'])}{part}{waits}"


def _cost(found: dict[str, Any]) -> str:
    if not found["gpu_hours"]:
        return "no GPU is asked for"
    usd = f", {found['usd']:,.0f} USD" if found["usd"] is not None else ""
    more = f"; each time that a job goes back into the queue (at most {found['requeues']}) may add as much as it took"
    return f"at most {found['gpu_hours']:,.0f} GPU-hours{usd}{more if found['requeues'] else ''}"
