"""The words of `openr1 evaluate` and `recipe=evaluate`: short names for settings, the engine, the run's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from openr1.errors import UserError, did_you_mean
from openr1.launch import hardware

if TYPE_CHECKING:
    from openr1.config.recipe import Recipe

RECIPE = "evaluate"
STAGE = "stages.evaluate"
SHORT = (
    "k", "limit", "temperature", "top_p", "top_k", "max_new_tokens", "prefill", "system_prompt", "pass_at", "cons",
    "trained_on", "second_grader", "reference",
)  # fmt: skip
LISTS = ("benchmark", "trained_on", "pass_at")
OTHER_NAMES = {"task": "benchmark", "tasks": "benchmark", "checkpoint": "model"}  # what others call it, make too
LONGEST_NAME = 80
LEAST_GPU_GIB = 4.0


def whole_lists(words: Sequence[str]) -> list[str]:
    """The words with their lists in brackets: several benchmarks are one evaluation, no sweep."""
    parts = [word.partition("=") for word in words]
    return [
        f"{key}={_listed(value)}" if key in LISTS and equals else key + equals + value for key, equals, value in parts
    ]


def settings_of(words: Sequence[str]) -> list[str]:
    """The settings that the words of an evaluation stand for; what is no word of its own stays as it is."""
    from openr1.config.compose import recipe_roots

    out: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key == "model" and equals and not value:
            raise UserError("model=: names no model; write model=PATH, a Hub id, or pypi:DISTRIBUTION==VERSION")
        if key == "model" and equals:
            preset = any((root / "model" / f"{value}.yaml").is_file() for root in recipe_roots())
            if preset and not Path(value).is_dir():
                out.append(f"model@{STAGE}.model={value}")
            else:
                out += ["model@stages.evaluate.model=hub", f"{STAGE}.model.source={_quoted(value)}"]
        elif key == "benchmark" and equals:
            out.append(f"{STAGE}.benchmarks={_listed(value)}")
        elif key == "prefill" and equals and value != "null":
            text = value[1:-1] if value[:1] in "'\"" and value[-1:] == value[:1] else value
            out.append(f"{STAGE}.prefill={_quoted(text.replace(chr(92) + 'n', chr(10)))}")
        elif key in SHORT and equals:
            out.append(f"{STAGE}.{key}={_listed(value) if key in LISTS else value}")
        else:
            out.append(word)
    if unknown := [line for word in words if (line := near_word(word))]:
        raise UserError(*unknown)
    if not any(re.match(r"\+?engine(@[^=]*)?=", word) for word in words):
        out += _default_engine(words)
    return out


def near_word(word: str) -> str | None:
    """What to say of `limt=5`: no setting of a recipe and no word of an evaluation, but near to one."""
    from openr1.config.compose import group_names
    from openr1.config.recipe import Recipe
    from openr1.launch.words import OWN_WORDS

    key, equals, _ = word.partition("=")
    known = {*SHORT, *OTHER_NAMES, "model", "benchmark"}
    if (
        not equals
        or not re.fullmatch(r"\w+", key)
        or key in {*SHORT, *OWN_WORDS, *Recipe.model_fields, *group_names()}
    ):
        return None
    near = did_you_mean(key, known, most=1)
    if key == "benchmark" or not near.startswith("did you mean"):
        return None
    meant = near.removeprefix("did you mean ").removesuffix("?")
    return f"{key}=: an evaluation has no such word; did you mean {OTHER_NAMES.get(meant, meant)}=?"


def _default_engine(words: Sequence[str]) -> list[str]:
    """vLLM where GPUs are shared out, on a Slurm site, which cannot be looked at from here, and where this machine has
    what it takes."""
    if any(re.match(r"engine\.\w+_parallel=", word) for word in words):
        return ["engine=vllm"]
    if _slurm_site(next((w.partition("=")[2] for w in words if w.startswith("cluster=")), "")):
        given = any(w.startswith(f"{STAGE}.resources") for w in words)
        return ["engine=vllm", *([] if given else [f"{STAGE}.resources.gpus=1"])]
    return ["engine=vllm"] if vllm_here() else []


def _slurm_site(cluster: str) -> bool:
    """Whether a choice of `cluster` is a Slurm site with GPUs that a model fits on."""
    from openr1.config.compose import recipe_roots

    files = [root / "cluster" / f"{cluster}.yaml" for root in recipe_roots()]
    found: dict[str, Any] = next((yaml.safe_load(f.read_text(encoding="utf-8")) for f in files if f.is_file()), {})
    return found.get("kind") == "slurm" and (found.get("gpu_memory_gib") or 0) >= LEAST_GPU_GIB


def _quoted(value: str) -> str:
    """A value that may hold what the override grammar reads as its own."""
    return value if value[:1] in "'\"" else "'" + value.replace("'", "\\'") + "'"


def _listed(value: str) -> str:
    """`a,b` as the list `[a,b]`."""
    return value if value.startswith("[") or value == "null" else f"[{value}]"


def vllm_here() -> bool:
    """Whether this machine has a GPU and a vLLM to put on it."""
    if not hardware.gpu_count():
        return False
    from openr1.engines.vllm_program import find_executable

    try:
        find_executable(None)
    except UserError:
        return False
    return True


def default_run(recipe: Recipe) -> str:
    """`evaluate-<the model's basename>-<8 hex>`: the digits are of what decides the answers, so that a larger k, more
    benchmarks or another place of the same model go on in the same run."""
    from openr1.launch.key import identity_of
    from openr1.manifest import hash_json

    model = getattr(recipe.stages["evaluate"], "model", None)
    served = getattr(getattr(recipe.stages["evaluate"], "engine", None), "model", None)
    source = str(model.source if model is not None else served or "endpoint")
    base = source.removeprefix("hub:").removeprefix("pypi:").partition("@")[0].partition("==")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", base.rstrip("/").rpartition("/")[2]).strip("-.") or "model"
    return f"evaluate-{name[:LONGEST_NAME]}-{hash_json(identity_of(recipe.stages['evaluate']))[:8]}"
