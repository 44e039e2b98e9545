"""What a stage read and made, as references that hang together by being equal: dataset → model → evaluation.

A content hash for what lies in the run's folder, a commit for what came from the Hub or went there. Every stage says
what it made, so nothing that a later one reads is without a maker, but for what came from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from openr1.config.recipe import Recipe
from openr1.manifest import Manifest
from openr1.metrics import TrackedArtifact

Type = Literal["dataset", "model", "evaluation"]
# by the kind of an output; what is not here (rows that were left out) is nobody's input
TYPES: Mapping[str, Type] = {
    "prompts": "dataset", "completions": "dataset", "verdicts": "dataset", "sft": "dataset", "rl": "dataset",
    "all": "dataset", "model": "model", "samples": "evaluation",
}  # fmt: skip


def artifacts_of(recipe: Recipe, name: str, manifest: Manifest) -> list[TrackedArtifact]:
    """What the stage `name` read and made."""
    run = recipe.run.replace("/", "-")
    inside = [*_read(recipe, run, manifest), *_made(run, name, manifest)]
    return [*_from_outside(manifest), *inside, *_published(manifest)]


def _from_outside(manifest: Manifest) -> Iterator[TrackedArtifact]:
    """Datasets and files of a task, and a model that no stage made."""
    sources = manifest.results.get("sources")
    for source in sources.values() if isinstance(sources, dict) else ():
        if source.get("dataset"):
            yield _on_hub("dataset", source["dataset"], source.get("revision"), used=True)
        elif source.get("sha256"):
            yield TrackedArtifact(source["file"], "dataset", f"openr1://sha256/{source['sha256']}", used=True)
    model = manifest.settings.get("model") or {}
    given = str(model.get("source") or "")
    if given.startswith("hub:") and "model" not in manifest.inputs:
        id, _, at = given.removeprefix("hub:").partition("@")
        yield _on_hub("model", id, at or model.get("revision"), used=True)


def _read(recipe: Recipe, run: str, manifest: Manifest) -> Iterator[TrackedArtifact]:
    seen = set()
    for entry in manifest.inputs.values():
        source, _, output = entry["ref"].partition("/")
        kinds = recipe.stages[source].outputs() if source in recipe.stages else {}
        kind = TYPES.get(kinds.get(output, output))
        if kind is not None and entry["ref"] not in seen:
            seen.add(entry["ref"])
            yield TrackedArtifact(_name(run, source, output), kind, f"openr1://sha256/{entry['hash']}", used=True)


def _made(run: str, name: str, manifest: Manifest) -> Iterator[TrackedArtifact]:
    for output, made in manifest.outputs.items():
        kind = TYPES.get(str(made.get("kind")))
        if kind is not None:
            about = {"rows": made.get("rows"), "stage": name, "key": manifest.key}
            where = f"openr1://sha256/{made['hash']}"
            yield TrackedArtifact(_name(run, name, output), kind, where, used=False, metadata=about)


def _published(manifest: Manifest) -> Iterator[TrackedArtifact]:
    told: dict[str, Any] = manifest.results.get("published") or {}
    if told:
        yield _on_hub(told["type"], told["repo"], told["commit"], used=False)


def _on_hub(type: Type, id: str, revision: str | None, used: bool) -> TrackedArtifact:
    place = "datasets/" if type == "dataset" else ""
    return TrackedArtifact(id, type, f"hf://{place}{id}@{revision or 'main'}", used)


def _name(run: str, stage: str, output: str) -> str:
    return f"{run}-{stage}-{output}"
