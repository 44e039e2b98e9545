"""What decides a stage's output: its own settings, the files that it reads, and the content of its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from openr1.config.recipe import Recipe
from openr1.manifest import Manifest, fingerprint, hash_file, hash_json, load_manifest
from openr1.stages.settings import BenchmarkStage, CurateStage, PromptsStage, StageSettings
from openr1.tasks.settings import LocalSettings


def identity_of(settings: StageSettings) -> dict[str, Any]:
    """What of a stage itself decides its output, as plain JSON."""
    raw = {"kind": settings.kind, "version": settings.version, "settings": settings.identity()}
    files = task_files(settings)
    if files:
        raw["files"] = {name: _hash_once(str(path), *_stamp(path)) for name, path in files.items()}
    return json.loads(json.dumps(raw, default=str))


def task_files(settings: StageSettings) -> dict[str, Path]:
    """The files beside its inputs that a stage reads, by name: their content belongs to the key, their place not."""
    if isinstance(settings, CurateStage):
        from openr1.curate.contamination import decontamination_files

        return decontamination_files(settings.curate)
    if isinstance(settings, BenchmarkStage):
        return {"model": settings.model_folder} if settings.model_folder is not None else {}
    if not isinstance(settings, PromptsStage) or not isinstance(settings.task, LocalSettings):
        return {}
    from openr1.tasks.local import local_files

    return local_files(settings.task)


def file_problems(settings: StageSettings, finished: bool = False) -> list[str]:
    """Why the files that a stage reads beside its inputs will not do; a `finished` stage has read its files."""
    if isinstance(settings, CurateStage) and not finished:
        from openr1.curate.contamination import decontamination_problems

        return decontamination_problems(settings.curate)
    missing = [path for path in task_files(settings).values() if not path.exists()]
    return [f"{path}: no such file; mend its path in the stage's settings" for path in missing]


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change, (0, 0) where there is no file; of a folder the sum and the latest of its files."""
    if path.is_dir():
        stats = [p.stat() for p in path.iterdir() if p.is_file()]
        return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def _hash_once(path: str, size: int, changed: int) -> str | None:
    """The content hash of a file, computed once for a state of it; None where there is none. Of a folder, which is a
    model's, its fingerprint."""
    if Path(path).is_dir():
        return fingerprint(Path(path))
    return hash_file(Path(path)) if Path(path).is_file() else None


def growth_of(settings: StageSettings, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What only adds rows: growing settings, and inputs that may grow."""
    growing = {name: hashes[name] for name, spec in settings.INPUTS.items() if spec.growth and name in hashes}
    return settings.growth() | {"inputs": growing}


def fixed_inputs(settings: StageSettings, hashes: Mapping[str, str]) -> dict[str, str]:
    """Content hashes of the inputs that belong to the key."""
    return {n: h for n, h in sorted(hashes.items()) if not settings.grows(n)}


def changed_inputs(settings: StageSettings, manifest: Manifest, hashes: Mapping[str, str]) -> list[str]:
    """The inputs of the key whose content is not what the manifest says was read."""
    fixed = fixed_inputs(settings, hashes)
    return [name for name in fixed if fixed[name] != manifest.inputs.get(name, {}).get("hash")]


def key_of(settings: StageSettings, hashes: Mapping[str, str]) -> str:
    """The key of a stage: equal keys, equal output (up to growth)."""
    return hash_json({"identity": identity_of(settings), "inputs": fixed_inputs(settings, hashes)})


def input_hashes(recipe: Recipe, folder: Path, stage: str) -> dict[str, str] | None:
    """Content hashes of a stage's inputs as they lie there, or None while one is not made yet."""
    hashes: dict[str, str] = {}
    for name, ref in recipe.stages[stage].inputs.items():
        source, _, output = ref.partition("/")
        manifest = load_manifest(folder / source)
        if manifest is None or manifest.status != "done" or output not in manifest.outputs:
            return None
        hashes[name] = manifest.outputs[output]["hash"]
    return hashes
