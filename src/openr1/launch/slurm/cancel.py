"""`openr1 cancel`: end what a run has in the queue and on nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openr1.config.recipe import load_run_yaml
from openr1.errors import UserError
from openr1.launch.shards import lock_path
from openr1.launch.slurm import commands
from openr1.launch.slurm.ledger import load_ledger
from openr1.store import holder_of, is_locked


def cancel_run(folder: Path) -> dict[str, Any]:
    """Cancel the Slurm jobs of a run; which, by stage. What they made is kept, and a second submit goes on from it.

    Raises UserError for a run that works on this machine, without Slurm: its own terminal ends it.
    """
    recipe = load_run_yaml(folder)
    if not load_ledger(folder):
        here = [n for n in recipe.order() if is_locked(lock_path(folder, n))]
        if here:
            who = holder_of(lock_path(folder, here[0]))
            raise UserError(
                f"{folder.name}: {here[0]} is run by {who}, no Slurm job; end it there, with Ctrl-C or kill"
            )
        return {"run": folder.name, "cancelled": {}}
    live = [q for q in commands.queue(str(folder.absolute())) if q.state != "COMPLETING"]
    commands.scancel(sorted({q.job for q in live}))
    found: dict[str, list[str]] = {}
    for job in live:
        found.setdefault(job.stage, []).append(job.id)
    return {"run": folder.name, "cancelled": found}
