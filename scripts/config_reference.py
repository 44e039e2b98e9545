"""Writes docs/config_reference.md from the settings classes and recipes/; a test keeps the page equal to them."""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from openr1.config.recipe import Recipe
from openr1.curate.settings import CurateSettings, SplitStep
from openr1.metrics import VOCABULARY
from openr1.paths import data_dir
from openr1.rewards.registry import get_reward, reward_names
from openr1.settings import Settings
from openr1.stages.settings import KINDS, StageSettings
from openr1.train.check import RESERVED
from openr1.train.fields import table

PAGE = Path(__file__).parents[1] / "docs" / "config_reference.md"
STAGE_FIELDS = ("kind", "seed", "inputs", "resources")  # what every stage has, shown once

HEAD = """# Every key

Made from the program by `python scripts/config_reference.py`; a test keeps the page equal to it. What the keys are for
and how a recipe is put together stands in [config.md](config.md).

*Key* says what a change does to output that is already there: **yes**, the field belongs to the stage's key, a change
is refused until `rerun=[STAGE]`; **grows**, only the missing rows are made; **no**, nothing happens. *Default* is the
program's, *required* where it has none; what the files of `recipes/stage/` give goes before it and is shown with each
kind of stage.
"""


def reference() -> str:
    """The page."""
    parts = [HEAD, _groups(), "\n## The recipe\n", _sentence(Recipe), _fields(Recipe, key=False)]
    parts += ["\n## Every stage\n", _sentence(StageSettings), _fields(StageSettings)]
    parts += [_stage(kind, cls) for kind, cls in KINDS.items()]
    parts += ["\n## Blocks\n"]
    for cls, key in _nested().items():
        parts += [f"\n### {cls.__name__}\n", _sentence(cls), _fields(cls, key=key)]
    parts += [_rewards(), _train(), _metrics()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(p.strip("\n") + "\n" for p in parts))


# -------------------------------------------------------------------------------------------------------- sections
def _groups() -> str:
    """The folders of the Hydra tree, each choice with what its file says of itself."""
    rows = []
    for folder in sorted(p for p in data_dir("recipes").iterdir() if p.is_dir()):
        for file in sorted(folder.glob("*.yaml")):
            rows.append((f"`{folder.name}`", f"`{file.stem}`", _file_comment(file)))
    return "\n## Groups\n\n" + _table(("group", "choice", "what it is"), rows)


def _file_comment(file: Path) -> str:
    """The first sentence of the comment at the top of a YAML file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = [line[1:].strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    text = " ".join(line for line in comment if not line.startswith("@"))
    return re.split(r"(?<=[.]) (?=[A-Z])", text)[0]


def _stage(kind: str, cls: type[StageSettings]) -> str:
    file = data_dir("recipes") / "stage" / f"{kind}.yaml"
    given = file.read_text(encoding="utf-8").strip()
    inputs = [
        (f"`{n}`", " or ".join(f"`{a}`" for a in sorted(s.accepts)), _yes(s.required), _key_of_input(s.growth))
        for n, s in cls.INPUTS.items()
    ]
    outputs = [(n if " " in n else f"`{n}`", f"`{k}`") for n, k in _outputs(cls).items()]
    parts = [f"\n## Stage `{kind}`\n", _sentence(cls)]
    parts += (
        ["\nReads:\n", _table(("input", "holds", "required", "key"), inputs)] if inputs else ["\nReads nothing.\n"]
    )
    parts += ["\nMakes:\n", _table(("output", "holds"), outputs), "\nSettings:\n"]
    parts += [_fields(cls, leave_out=STAGE_FIELDS), f"\n`recipes/stage/{kind}.yaml`:\n", f"```yaml\n{given}\n```\n"]
    return "\n".join(parts)


def _outputs(cls: type[StageSettings]) -> dict[str, str]:
    if "splits" in cls.model_fields:
        made = cls.model_construct(splits={"<split>": None}).outputs()
        return {("every split, by its name" if n == "<split>" else n): k for n, k in made.items()}
    if "curate" in cls.model_fields:
        split = SplitStep.model_construct(step="split", parts={"<part>": 0.1})
        return cls.model_construct(curate=CurateSettings.model_construct(steps=[split])).outputs()
    return cls.model_construct().outputs()


def _rewards() -> str:
    rows = []
    for name in reward_names():
        function = get_reward(name)
        params = [p for p in list(inspect.signature(function).parameters.values())[1:]]
        shown = ", ".join(
            f"`{p.name}`" if p.default is p.empty else f"`{p.name}` ({_plain(p.default)})" for p in params
        )
        rows.append((f"`{name}`", shown or "–", _first(inspect.getdoc(function) or "")))
    return "\n## Rewards\n\nA part's `params` by reward, with their defaults.\n\n" + _table(
        ("reward", "params", "what it pays"), rows
    )


def _train() -> str:
    fields = table()
    head = f"""
## `train`

The block holds the argument names of `trl.SFTConfig` (stage `sft`, {len(fields["sft"])} names) and `trl.GRPOConfig`
(stage `grpo`, {len(fields["grpo"])} names) as TRL {fields["trl"]} and transformers {fields["transformers"]} define
them; `src/openr1/train/trl_fields.json` lists them with types and defaults. Where the block is silent, TRL's default
holds. These are not to be set:

"""
    names = {
        why: [f"`{k}`" for k in sorted(RESERVED) if RESERVED[k] == why] for why in dict.fromkeys(RESERVED.values())
    }
    return head + _table(("arguments", "instead"), [(", ".join(args), why) for why, args in names.items()])


def _metrics() -> str:
    head = "\n## Metrics\n\nThe names in a training stage's `metrics.jsonl`; `*` stands for a part of the reward.\n\n"
    return head + _table(("name", "what it is"), [(f"`{k}`", v) for k, v in VOCABULARY.items()])


# ---------------------------------------------------------------------------------------------------------- tables
def _fields(cls: type[Settings], leave_out: tuple[str, ...] = (), key: bool = True) -> str:
    notes = _notes(cls)
    rows = []
    for name, field in cls.model_fields.items():
        if name in leave_out:
            continue
        row = [f"`{name}`", _type(field.annotation, field.metadata), _default(field)]
        row += [_key(cls, name)] if key else []
        rows.append((*row, notes.get(name, "")))
    head = ("field", "type", "default", "key", "meaning") if key else ("field", "type", "default", "meaning")
    return _table(head, rows) if rows else "No settings of its own.\n"


def _key(cls: type[Settings], name: str) -> str:
    return "grows" if name in cls.GROWTH else "no" if name in cls.NOT_IDENTITY else "yes"


def _key_of_input(growth: bool) -> str:
    return "grows" if growth else "yes"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return _plain(field.get_default(call_default_factory=True))


def _plain(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, Settings):
        value = value.model_dump(exclude_unset=True) or "all defaults"
    if isinstance(value, dict):
        value = {k: v.model_dump(exclude_unset=True) if isinstance(v, Settings) else v for k, v in value.items()}
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value) if value != "" else '""'
    return text if text == "all defaults" else f"`{text}`"


def _type(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    bounds = "".join(_bounds(metadata))
    if origin is Annotated:
        return _type(args[0], args[1:])
    if origin in (Union, types.UnionType):
        members = [_type(a) for a in args if a is not type(None)]
        return " or ".join(dict.fromkeys(members)) + bounds + (" or null" if type(None) in args else "")
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in args)
    if origin is dict:
        return f"{{{_type(args[0])}: {_type(args[1])}}}"
    if origin is list:
        return f"list of {_type(args[0])}{bounds}"
    if origin is tuple:
        return f"[{', '.join(_type(a) for a in args)}]"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        stage = next((k for k, c in KINDS.items() if c is annotation), None)
        return f"[stage `{stage}`](#stage-{stage})" if stage else f"[{annotation.__name__}](#{_anchor(annotation)})"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true/false", "Any": "any value"}
    return names.get(getattr(annotation, "__name__", ""), str(annotation)) + bounds


def _anchor(cls: type) -> str:
    return cls.__name__.lower()


def _bounds(metadata: list[Any] | tuple[Any, ...]) -> Iterator[str]:
    for item in metadata:  # pydantic keeps the limits of one field in one or in several objects
        inner = getattr(item, "metadata", None)
        if inner:
            yield from _bounds(inner)
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("min_length", "of at least")):
            limit = getattr(item, name, None)
            if limit is not None:
                yield f" {sign} {limit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------- what classes say
def _nested() -> dict[type[Settings], bool]:
    """Settings types below stages and recipe in the order in which they are met, and whether keys rest on them."""
    found: dict[type[Settings], bool] = {}

    def visit(annotation: Any, key: bool) -> None:
        if not (isinstance(annotation, type) and issubclass(annotation, Settings)):
            for inner in get_args(annotation):
                visit(inner, key)
        elif annotation not in KINDS.values() and not found.get(annotation) and (key or annotation not in found):
            found[annotation] = key
            below(annotation, key)

    def below(cls: type[Settings], key: bool) -> None:
        for name, field in cls.model_fields.items():
            visit(field.annotation, key and name not in cls.NOT_IDENTITY)

    for cls in KINDS.values():
        below(cls, key=True)
    below(Recipe, key=False)
    return found


def _sentence(cls: type[Settings]) -> str:
    """What a class says of itself: its first sentence, unless that explains a field, and those that name none."""
    sentences = _sentences(cls.__doc__ or "")
    said = [s for i, s in enumerate(sentences) if _leads(i, s) or not _names_field(s, cls)]
    return " ".join(said) + "\n" if said else ""


def _leads(place: int, sentence: str) -> bool:
    return place == 0 and not re.match(r"`?\w+`?(: | is )", sentence)


def _notes(cls: type[Settings]) -> dict[str, str]:
    """Field -> what the docstrings of the class and of its bases say about it."""
    notes: dict[str, list[str]] = {}
    for base in reversed([c for c in cls.__mro__ if issubclass(c, Settings) and c is not Settings]):
        if base.__doc__:
            for name in base.model_fields:
                sentences = [s for i, s in enumerate(_sentences(base.__doc__)) if base is not cls or not _leads(i, s)]
                about = [s for s in sentences if re.search(rf"`{name}`|^{name}: ", s)]
                notes[name] = [re.sub(rf"^`?{name}`?: ", "", s) for s in about] or notes.get(name, [])
        notes |= {name: [text] for name, text in _attribute_notes(base).items()}
    return {name: " ".join(said) for name, said in notes.items() if said}


def _names_field(sentence: str, cls: type[Settings]) -> bool:
    return any(re.search(rf"`{name}`|^{name}: ", sentence) for name in cls.model_fields)


def _sentences(doc: str) -> list[str]:
    """Sentences of a docstring; a line `name: text` begins one."""
    text = re.sub(r"\n(?=\w+: )", "\0", inspect.cleandoc(doc))
    text = " ".join(text.replace("\0", " \0").split(" ")).replace("\n", " ")
    parts = re.split(r"\0|(?<=[.])\s+(?=[A-Z`]|\w+: )", text)
    return [" ".join(p.split()) for p in parts if p.strip()]


def _attribute_notes(cls: type) -> dict[str, str]:
    """The strings that stand below fields in the source of a class."""
    (node,) = ast.parse(inspect.getsource(cls)).body  # classes of modules are not indented
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if named and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = " ".join(str(below.value.value).split())  # type: ignore[attr-defined]
    return found


def _first(doc: str) -> str:
    """The first paragraph on one line."""
    return " ".join(doc.split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
