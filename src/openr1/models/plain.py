"""A tokenizer and its chat template without transformers and torch, for what is checked before anything runs.

`tokenizer.json` is read by the library that transformers uses for it, the template is rendered by Jinja with the same
settings. It has just what `openr1.models.chat` asks of a tokenizer; a test holds both against each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.errors import UserError
from openr1.models.chat import EOS, PAD, START, agree_on_the_end, template
from openr1.models.settings import ModelSettings, TokenizerSettings
from openr1.models.source import parse_source, pypi_folder
from openr1.models.tokenizer import character_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


class NotHere(Exception):
    """The model's tokenizer is not on this machine, or cannot be read without its own library; says why."""


class PlainTokenizer:
    """Token ids, special tokens and rendering of one tokenizer."""

    def __init__(self, core: Tokenizer, named: dict[str, str | None], chat_template: str | None) -> None:
        self.core, self.chat_template = core, chat_template
        self.bos_token, self.eos_token, self.pad_token, self.unk_token = (named.get(name) for name in NAMED)

    @classmethod
    def from_settings(cls, settings: TokenizerSettings, chat_template: str | None) -> PlainTokenizer:
        """That of a model from scratch."""
        core = character_tokenizer(settings)
        core.add_special_tokens([PAD, START, EOS])
        return cls(core, {"eos_token": EOS, "pad_token": PAD, "unk_token": PAD}, template(chat_template or "chatml"))

    @classmethod
    def from_folder(cls, folder: Path) -> PlainTokenizer:
        """That of a model folder. Raises NotHere where tokenizer.json is not all there is to it."""
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise NotHere(f"{folder} has no tokenizer.json")
        try:
            core = Tokenizer.from_file(str(path))
        except Exception as e:  # noqa: BLE001 the library raises nothing narrower
            raise UserError(f"{path}: cannot be read ({str(e).splitlines()[0]}); fetch the model again") from e
        config = _json(folder / "tokenizer_config.json")
        named = {name: _content(config.get(name)) for name in NAMED}
        return cls(core, named, _chat_template(folder, config))

    # what openr1.models.chat asks for
    @property
    def eos_token_id(self) -> int | None:
        return self.core.token_to_id(self.eos_token) if self.eos_token else None

    @property
    def pad_token_id(self) -> int | None:
        return self.core.token_to_id(self.pad_token) if self.pad_token else None

    @property
    def added_tokens_decoder(self) -> dict[int, str]:
        return {i: token.content for i, token in self.core.get_added_tokens_decoder().items()}

    @property
    def all_special_tokens(self) -> list[str]:
        """Those that decoding leaves out."""
        return [token.content for token in self.core.get_added_tokens_decoder().values() if token.special]

    def get_vocab(self) -> dict[str, int]:
        return dict(self.core.get_vocab(with_added_tokens=True))

    def convert_ids_to_tokens(self, i: int) -> str | None:
        return self.core.id_to_token(i)

    def __call__(self, text: str | Sequence[str], add_special_tokens: bool = True) -> dict[str, Any]:
        if isinstance(text, str):
            return {"input_ids": self.core.encode(text, add_special_tokens=add_special_tokens).ids}
        found = self.core.encode_batch_fast(list(text), add_special_tokens=add_special_tokens)
        return {"input_ids": [e.ids for e in found]}

    def apply_chat_template(
        self, messages: Sequence[Any], tokenize: bool = False, add_generation_prompt: bool = False
    ) -> str:
        """The conversation as text. Raises UserError for one that the template refuses, or a template that is none."""
        from jinja2.exceptions import TemplateError

        assert self.chat_template is not None and not tokenize
        named = {name: getattr(self, name) or "" for name in NAMED}
        given = {
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return str(_compiled(self.chat_template).render(**given, **named))
        except TemplateError as e:
            shown = ", ".join(str(m["role"]) for m in messages)
            raise UserError(f"the chat template does not render a conversation of {shown}: {e}") from e


def plain_tokenizer(model: ModelSettings) -> tuple[PlainTokenizer, Path | None]:
    """A model's tokenizer as its stage will have it, and the model's folder (None: it is made from scratch).

    Raises NotHere for a model that is not on this machine. Nothing is downloaded.
    """
    if model.source == "scratch":
        assert model.tokenizer is not None
        return PlainTokenizer.from_settings(model.tokenizer, model.chat_template), None
    folder = _local_folder(model)
    tokenizer = PlainTokenizer.from_folder(folder)
    if model.chat_template is not None:
        tokenizer.chat_template = template(model.chat_template)
        agree_on_the_end(tokenizer)  # type: ignore[arg-type]
    return tokenizer, folder


def here(model: ModelSettings) -> bool:
    """Whether a model that is not made from scratch is a folder here, or in the cache of converted packages."""
    try:
        kind, name, _ = parse_source(model.source, model.revision)
    except UserError:  # told where it is opened
        return False
    return kind == "path" or (kind == "pypi" and (pypi_folder(name) / "config.json").exists())


def _local_folder(model: ModelSettings) -> Path:
    kind, name, revision = parse_source(model.source, model.revision)
    if kind == "path":
        return Path(name)
    if kind == "pypi":
        folder = pypi_folder(name)
        if not (folder / "config.json").exists():
            raise NotHere(f"{model.source} is not in the cache yet")
        return folder
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "tokenizer.json", revision=revision)
    if not isinstance(found, str):
        raise NotHere(f"{model.source} is not in the Hub's cache here")
    return Path(found).parent


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise UserError(f"{path}: not readable as JSON ({e}); fetch the model again") from e
    return found


def _content(token: Any) -> str | None:
    """A special token, which some files keep as a mapping."""
    return token.get("content") if isinstance(token, dict) else token


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The template of its own file or of tokenizer_config.json; of several, the default one."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        return next((t.get("template") for t in found if t.get("name") == "default"), None)
    return found


@lru_cache(maxsize=8)
def _compiled(text: str) -> Any:
    """The template as transformers compiles it: sandboxed, with its settings of white space and its functions."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_tag()]
    )
    env.filters["tojson"] = lambda x, **options: json.dumps(x, ensure_ascii=False, **options)
    env.globals |= {"raise_exception": _raise, "strftime_now": lambda form: datetime.now().strftime(form)}
    return env.from_string(text)


def _raise(message: str) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


def _generation_tag() -> Any:
    """`{% generation %}` marks what training looks at; rendering takes its content as it is."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return Generation
