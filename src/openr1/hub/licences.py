"""Licences of what a publication was made from, and whether the publication can carry one that honours them all.

This is a check against known mistakes, no legal advice: licences that forbid derivatives, share-alike ones that pull
in different directions, non-commercial data under a licence that allows commerce, and sources nobody has looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath
from typing import Any

from openr1.errors import UserError
from openr1.report.load import Stage

GENERATED_TASKS = frozenset({"arithmetic", "countdown", "functions", "reasoning_gym", "word_problems"})
OWN_LICENCE, UNKNOWN = "apache-2.0", "unknown"
# from the freest: a mixture of these may carry the last of them that it holds
PERMISSIVE = (
    "cc0-1.0", "pddl", "unlicense", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "bsd", "apache-2.0",
    "cdla-permissive-2.0", "odc-by", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Something from outside that a stage read: `kind` is dataset, model, file, package or generated."""

    stage: str
    kind: str
    id: str
    revision: str | None
    licence: str

    def __str__(self) -> str:
        return self.id + (f" at {self.revision}" if self.revision else "")


def origins_of(lineage: Sequence[Stage], known: Mapping[str, str]) -> list[Origin]:
    """What the stages read from outside; `known` holds licences by id, found on the Hub or given by the user."""
    found: list[Origin] = []
    for stage in lineage:
        settings = stage.manifest.settings if stage.manifest else {}
        if stage.kind == "prompts":
            found.append(_of_task(stage, settings.get("task") or {}, known))
        model = settings.get("model")
        if isinstance(model, dict) and not stage.inputs.get("model"):
            found += _of_model(stage, model, known)
    return found


def _of_task(stage: Stage, task: Mapping[str, Any], known: Mapping[str, str]) -> Origin:
    name = str(task.get("name"))
    if name in GENERATED_TASKS:
        return Origin(stage.name, "generated", name, None, known.get(name, OWN_LICENCE))
    if name == "hub":
        id, revision = str(task.get("id")), task.get("revision") or _commit_of(stage)
        return Origin(stage.name, "dataset", id, revision, known.get(id, UNKNOWN))
    paths = task.get("path") or {}
    files = [PurePath(str(p)).name for p in (paths.values() if isinstance(paths, dict) else [paths])]
    id = ", ".join(files) or name
    return Origin(stage.name, "file", id, None, known.get(id, UNKNOWN))


def _commit_of(stage: Stage) -> str | None:
    """The commit that a stage found for a dataset without a pinned revision."""
    sources = stage.results.get("sources")
    entries = sources.values() if isinstance(sources, dict) else sources or []
    return next((str(e["revision"]) for e in entries if isinstance(e, dict) and e.get("revision")), None)


def _of_model(stage: Stage, model: Mapping[str, Any], known: Mapping[str, str]) -> list[Origin]:
    source = str(model.get("source") or "scratch")
    if source == "scratch":
        return []
    if source.startswith("pypi:"):
        name = source.removeprefix("pypi:").split("==")[0]
        return [Origin(stage.name, "package", source, None, known.get(source) or _package_licence(name))]
    if source.startswith("hub:") or (source.count("/") == 1 and not source.startswith((".", "/", "~"))):
        id, _, at = source.removeprefix("hub:").partition("@")
        return [Origin(stage.name, "model", id, at or model.get("revision"), known.get(id, UNKNOWN))]
    name = PurePath(source).name
    return [Origin(stage.name, "file", name, None, known.get(name, UNKNOWN))]


def _package_licence(name: str) -> str:
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN
    fields = [found[name] for name in ("License-Expression", "License") if name in found]
    said = str(next(iter(fields), "")).lower().strip()
    words = {"apache 2.0": "apache-2.0", "apache license 2.0": "apache-2.0", "mit license": "mit"}
    return words.get(said, said if said in PERMISSIVE else UNKNOWN)


def choose_licence(origins: Sequence[Origin], asked: str | None, public: bool) -> str:
    """The licence of a publication. Raises UserError where none can honour all sources, or `asked` does not.

    Without `asked`: the only one that binds what is made from it, else the strictest of the permissive ones.
    """
    problems = [
        f"{o.id} is under {o.licence}, which allows no derivatives: what was made from it (by {o.stage}) cannot be "
        "published; take it out of the recipe"
        for o in origins
        if "-nd" in o.licence
    ]
    binding = {o.licence: o.id for o in origins if o.licence not in PERMISSIVE and o.licence != UNKNOWN}
    if problems:
        raise UserError(*problems)
    unknown = [o for o in origins if o.licence == UNKNOWN]
    if unknown and public and not asked:
        raise UserError(*(_unknown(o) for o in unknown))
    if asked:
        _refuse(asked, binding)
        return asked
    if len(binding) > 1:
        return _common(binding)
    if binding:
        return next(iter(binding))
    if unknown:
        return UNKNOWN
    held = {o.licence for o in origins} or {OWN_LICENCE}
    return max(held, key=PERMISSIVE.index)


def _unknown(origin: Origin) -> str:
    return (
        f"the licence of {origin} ({origin.kind}, read by {origin.stage}) is not known: say which it is with "
        f"--licence-of {origin.id!r}=NAME, or that of the whole with --licence NAME, before it is public"
    )


def _common(binding: Mapping[str, str]) -> str:
    """The one of several binding licences that the others allow, or a refusal."""
    for name in binding:
        if all(_allows(other, name) for other in binding):
            return name
    named = " and ".join(f"{id} ({name})" for name, id in binding.items())
    raise UserError(
        f"{named} have licences that cannot be honoured together; leave one out, or settle it with the owners and say "
        "so with --licence other"
    )


def _refuse(asked: str, binding: Mapping[str, str]) -> None:
    problems = [
        f"--licence {asked}: {id} is under {name}, which does not allow it; use --licence {name}"
        for name, id in binding.items()
        if not _allows(name, asked)
    ]
    if problems:
        raise UserError(*problems)


def _allows(source: str, target: str) -> bool:
    """Whether what is made from something under `source` may be under `target`."""
    if source == target or source in PERMISSIVE or target == "other":
        return True
    return "-nc" in source and "-sa" not in source and "-nc" in target
