"""The documents say what the program does: commands exist, keys compose, links resolve, the reference is current."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from openr1.cli import parse_args
from openr1.config import recipe_names
from openr1.errors import OpenR1Error
from openr1.launch.words import compose, name_list, split_words

ROOT = Path(__file__).parents[1]
PAGES = [
    p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))) if p.exists()
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
KEY_VALUE = re.compile(r"[a-z_]+([.@][\w.@]+)?=[^=\s].*|~[a-z_][\w.@]+")
EXAMPLE = re.compile(r"```yaml\n(# @package _global_\n.*?)```", re.S)
ids = [str(p.relative_to(ROOT)) for p in PAGES]


# --------------------------------------------------------------------------------------------------- reading a page
def shown(page: Path) -> Iterator[str]:
    """Everything that a page shows as code: lines of fenced blocks, and spans in the text."""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line.removeprefix("$ ").strip()
        else:
            cells = line.split(" | ") if page.name == "from-open-r1.md" and line.startswith("| ") else ["", line]
            yield from re.findall(r"`([^`]+)`", " ".join(cells[1:]))  # there the first column is Open-R1's


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of every shown command of `program`; usage lines with [brackets] and prose are left out."""
    found = []
    for text in shown(page):
        text = re.sub(r"^((\w+=\S+|nice( -n \d+)?) )*(\.venv/bin/)?", "", re.sub(r"\s{2,}.*|\s#.*", "", text))
        if text.startswith(program + " ") and "[-" not in text and "…" not in text:
            found.append(shlex.split(text.replace("\\", "\\\\"))[1:])
    return found


def settings(page: Path) -> list[str]:
    """Shown `key=value` words that stand alone and name a key of a recipe."""
    texts = [t for t in shown(page) if not t.startswith(("openr1 ", "make "))]  # those are checked as commands
    texts = [word for text in texts for word in ([text] if "'" in text else text.split())]
    known = ("stages.", "data.", "track", "cluster", "engine", "seed=", "reward@", "~stages")
    return [t for t in texts if t.startswith(known) and KEY_VALUE.fullmatch(t)]


# ------------------------------------------------------------------------------------------------- what a page says
def openr1_problem(words: list[str]) -> str | None:
    """Why `openr1 WORDS` would not be understood; a verb alone is its name in prose, capitals are the user's."""
    words = words if len(words) > 1 else [*words, "--help"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = parse_args(words)
    except SystemExit as e:
        return None if e.code == 0 else said.getvalue()
    return recipe_problem(tuple(args.words)) if words[0] in ("run", "check") else None


@cache
def recipe_problem(words: tuple[str, ...]) -> str | None:
    own, rest = split_words(words)
    name = own.get("recipe", "")
    if name.isupper() or name == "mine":
        return None if all("=" in w for w in rest) else f"no setting among {rest}"
    try:
        recipe, _ = compose(words)
    except OpenR1Error as e:
        return str(e)
    stages = [*name_list(own.get("stages")), *name_list(own.get("rerun"))]
    unknown = [s for s in stages if s not in recipe.stages]
    return f"{name} has no stage {', '.join(unknown)}" if unknown else None


def make_problem(words: list[str]) -> str | None:
    """Why `make WORDS` would not be understood: target, variables, recipe."""
    words = [w.strip("[]") for w in words]  # [RUN=] need not be given
    targets = re.findall(r"(?m)^([a-z-]+):", MAKEFILE)
    variables = dict(w.split("=", 1) for w in words if "=" in w)
    unknown = [w for w in words if "=" not in w and w not in targets]
    unknown += [v for v in variables if not re.search(rf"\b{v}\b", MAKEFILE)]
    if unknown:
        return f"the Makefile has no {', '.join(unknown)}"
    recipe = variables.get("RECIPE") or "tiny"
    return None if recipe.isupper() or recipe in recipe_names() else f"no recipe {recipe}"


def setting_problems(words: list[str]) -> list[str]:
    """The settings that no shipped recipe takes; all at once where one takes all of them, which is quick."""
    names = ["tiny", *(n for n in recipe_names() if n != "tiny")]
    if not words or any(recipe_problem((f"recipe={n}", *words)) is None for n in names):
        return []
    alone = {w: [recipe_problem((f"recipe={n}", w)) for n in names] for w in words}
    return [f"{w}: {problems[0]}" for w, problems in alone.items() if all(problems)]


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


# ------------------------------------------------------------------------------------------------------------ tests
def test_the_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("config_reference", ROOT / "scripts" / "config_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "config_reference.md").read_text(encoding="utf-8")
    assert written == module.reference(), "run: .venv/bin/python scripts/config_reference.py"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_exist(page: Path) -> None:
    problems = [f"openr1 {' '.join(c)}: {p}" for c in commands(page, "openr1") if (p := openr1_problem(c))]
    problems += [f"make {' '.join(c)}: {p}" for c in commands(page, "make") if (p := make_problem(c))]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_settings_compose(page: Path) -> None:
    problems = setting_problems(list(dict.fromkeys(settings(page))))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        outside = link.startswith(("http://", "https://", "mailto:"))
        if not outside and (not target.exists() or (anchor and anchor not in slugs(target))):
            broken.append(link)
    assert not broken


def test_the_example_recipe_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = EXAMPLE.findall((ROOT / "docs" / "config.md").read_text(encoding="utf-8"))
    (tmp_path / "recipes" / "recipe").mkdir(parents=True)
    (tmp_path / "recipes" / "recipe" / "mine.yaml").write_text(example)
    monkeypatch.chdir(tmp_path)
    recipe, _ = compose(["recipe=mine"])
    assert list(recipe.stages) == list(yaml.safe_load(example)["stages"])


def test_the_checks_see_what_is_wrong(tmp_path: Path) -> None:
    """The tests above pass on a blind reader too, so the reader is shown each fault once."""
    page = tmp_path / "page.md"
    page.write_text(
        "Say `openr1 runn x` or `make nonsense`, with `stages.grpo.train.learning_rte=1`.\n```\nopenr1 run\n```\n"
    )
    assert [c[0] for c in commands(page, "openr1")] == ["runn", "run"]
    assert openr1_problem(["runn", "x"]) and openr1_problem(["runn"]) and make_problem(["nonsense"])
    assert openr1_problem(["run", "recipe=tiny", "rerun=[grpoo]"]) and make_problem(["run", "RECIPE=tny"])
    assert settings(page) == ["stages.grpo.train.learning_rte=1"]
    assert "learning_rate" in setting_problems(["stages.grpo.train.learning_rte=1"])[0]
