"""Shards of a generate stage: N tasks that fill one store without talking, and the sum of what they did.

A task leaves the stage's own manifest alone: its manifest, metrics and logs lie in `<stage>/shards/00003-of-00016/`.
The plain `openr1 run` afterwards finds all rows there and writes the stage's manifest with the totals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.manifest import Manifest, load_manifest
from openr1.metrics import read_metrics
from openr1.store import JOURNALS, FileLock, Shard, holder_of, is_locked


def shard_folder(stage_folder: Path, shard: Shard) -> Path:
    """Where a shard keeps its manifest, metrics and logs."""
    return stage_folder / "shards" / shard.name


def lock_path(folder: Path, stage: str, shard: Shard | None = None) -> Path:
    """The lock file of a stage or of its shard; it lies outside the stage's folder, which may be moved aside."""
    return folder / ".locks" / f"{stage}{f'.shard-{shard.name}' if shard else ''}.lock"


class StageLock:
    """The right to work on a stage: alone, or with `shard` beside the other shards."""

    def __init__(self, folder: Path, stage: str, run: str, shard: Shard | None = None) -> None:
        what = f"stage {stage} of run {run}"
        self.folder, self.stage, self.shard, self.what = folder, stage, shard, what
        self._locks = [FileLock(lock_path(folder, stage), what, shared=shard is not None)]
        if shard is not None:
            self._locks.append(FileLock(lock_path(folder, stage, shard), f"shard {shard} of {what}"))

    def __enter__(self) -> StageLock:
        try:
            for lock in self._locks:
                lock.acquire()
        except UserError:
            self.__exit__()
            if self.shard is None and (active := active_shards(self.folder, self.stage)):
                raise UserError(f"{self.what} {in_use(self.folder, self.stage, active)}") from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._locks:
            lock.release()


def shards_of(stage_folder: Path) -> list[tuple[Shard, Manifest]]:
    """The shards that have been started, with their manifests."""
    found = []
    for path in sorted((stage_folder / "shards").glob("*-of-*")):
        manifest = load_manifest(path)
        if manifest is not None:
            found.append((Shard.of_folder(path), manifest))
    return found


def active_shards(folder: Path, stage: str) -> list[Shard]:
    """The shards of a stage that a living process works on."""
    locks = sorted((folder / ".locks").glob(f"{stage}.shard-*.lock"))
    found = [Shard.of_folder(p.with_name(p.name.removeprefix(f"{stage}.").removesuffix(".lock"))) for p in locks]
    return [s for s in found if is_locked(lock_path(folder, stage, s))]


def in_use(folder: Path, stage: str, active: Sequence[Shard]) -> str:
    """Who works on a stage's shards, and what to do about it."""
    shown = ", ".join(f"{s} ({holder_of(lock_path(folder, stage, s))})" for s in active[:3])
    more = f" and {len(active) - 3} more" if len(active) > 3 else ""
    return f"is in use by shard {shown}{more}; wait for them to end, or stop them"


def begun(stage_folder: Path) -> Manifest | None:
    """The stage's manifest; where only shards have begun it, that of the shard with the most samples a prompt."""
    manifest = load_manifest(stage_folder)
    shards = shards_of(stage_folder) if manifest is None else []
    if not shards:
        return manifest
    _, stand_in = max(shards, key=lambda s: s[1].growth.get("k", 0))
    return Manifest(**{**vars(stand_in), "status": "running", "attempt": 0, "shards": totals(stage_folder)})


def most_samples(stage_folder: Path) -> int:
    """The largest k that a shard was asked for."""
    return max((int(m.growth.get("k", 0)) for _, m in shards_of(stage_folder)), default=0)


# ----------------------------------------------------------------------------------------------------------- account
def earlier_attempts(before: Manifest | None, folder: Path, store: Path) -> list[dict[str, Any]]:
    """All attempts so far; one that was killed is counted until its last sign of life in logs and `store`."""
    if before is None:
        return []
    if before.attempts and before.attempts[-1]["attempt"] == before.attempt:
        return before.attempts
    signs = [p.stat().st_mtime for p in (folder / "logs" / f"attempt_{before.attempt}").glob("*")]
    files = [folder / "metrics.jsonl", *store.glob(JOURNALS)]
    signs += [p.stat().st_mtime for p in files if p.exists()]
    seconds = max([0.0, *(s - before.started_at for s in signs)])
    return [*before.attempts, {"attempt": before.attempt, "seconds": round(seconds, 3), "exit": "killed"}]


def totals(stage_folder: Path) -> list[dict[str, Any]]:
    """What every shard did, for the stage's manifest: completions, attempts, seconds and GPU-hours."""
    out = []
    for shard, manifest in shards_of(stage_folder):
        place, store = shard_folder(stage_folder, shard), stage_folder / "store" / f"shard-{shard.name}"
        attempts = earlier_attempts(manifest, place, store)
        seconds = sum(a["seconds"] for a in attempts)
        resources = manifest.settings.get("resources", {})
        gpus = resources.get("gpus", 0) * resources.get("nodes", 1)
        out.append(
            {
                "shard": str(shard),
                "status": manifest.status,
                "completions": manifest.counts.get("out"),
                "attempts": len(attempts),
                "seconds": round(seconds, 3),
                "gpu_hours": round(gpus * seconds / 3600, 6),
                "host": manifest.host,
            }
        )
    return out


def said_before(stage_folder: Path, before: Manifest | None) -> dict[str, Any]:
    """The results of the stage's last attempt, or else of a shard that is done."""
    if before is not None and before.results:
        return before.results
    return next((m.results for _, m in shards_of(stage_folder) if m.results), {})


def progress(folder: Path, stage: str) -> tuple[str, str] | None:
    """(state, note) of a stage as its shards tell it; None where there is none."""
    shards = shards_of(folder / stage)
    active = set(active_shards(folder, stage))
    if not shards and not active:
        return None
    by_state: dict[str, list[Shard]] = {"done": [], "running": [], "failed": [], "interrupted": []}
    completions = 0
    for shard, manifest in shards:
        state = manifest.status if manifest.status != "running" else "interrupted"
        by_state["running" if shard in active else state].append(shard)
        metrics = read_metrics(shard_folder(folder / stage, shard) / "metrics.jsonl")
        now = int(metrics[-1]["step"]) if metrics else 0
        completions += int(manifest.counts.get("out") or 0) if manifest.status == "done" else now
    count = Counter(s.count for s in (active or [s for s, _ in shards])).most_common(1)[0][0]
    parts = [f"{len(by_state[s])} {s}" for s in by_state if by_state[s]]
    waiting = count - len({s for s, _ in shards if s.count == count} | {s for s in active if s.count == count})
    parts += [f"{waiting} not started"] if waiting > 0 else []
    note = f"{count} shards: {', '.join(parts)}; {completions} completions"
    if active:
        return "running", note
    if by_state["failed"]:
        return "failed", note
    if by_state["interrupted"] or waiting > 0:
        return "interrupted", note
    return "waiting", f"{note}; openr1 run without shard= puts them together"
