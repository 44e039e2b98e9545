"""The rooms of openr1 form a ladder: each imports only from rooms before it, and the lower ones need no torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import openr1

SOURCE = Path(openr1.__file__).parent
# fmt: off
ROOMS = [
    "errors", "paths", "log", "settings", "records", "manifest", "store", "metrics", "nodes", "sandbox", "verify",
    "tasks", "rewards", "models", "engines", "curate", "train", "evaluate", "report", "hub", "stages",
    "config", "launch", "cli",
]
# fmt: on
HEAVY = ("torch", "transformers", "trl", "datasets", "vllm")


def room_of(path: Path) -> str:
    """errors.py -> errors, verify/math.py -> verify, __init__.py -> ''."""
    first = path.relative_to(SOURCE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def present() -> set[str]:
    return {room_of(path) for path in SOURCE.rglob("*.py")} - {""}


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) for every import in a file, those inside functions and under TYPE_CHECKING too."""
    package = ("openr1", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from ((node.lineno, a.value) for a in node.args if isinstance(a, ast.Constant))


def rooms_used(path: Path) -> Iterator[tuple[int, str]]:
    for line, module in imported_modules(path):
        root, _, rest = module.partition(".")
        name = rest.partition(".")[0]
        if root == "openr1" and (SOURCE / name).with_suffix(".py").exists() | (SOURCE / name).is_dir() and name:
            yield line, name


def test_every_module_belongs_to_a_listed_room() -> None:
    assert present() <= set(ROOMS), "give the new room its place in ROOMS (tests/test_rooms.py) and in CONTRIBUTING.md"


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_from_rooms_before_it(room: str) -> None:
    files = [path for path in sorted(SOURCE.rglob("*.py")) if room_of(path) == room]
    assert files, f"room {room} is listed and not there"
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    wrong = [
        f"{path.relative_to(SOURCE.parent)}:{line} imports openr1.{used}, a room after {room}"
        for path in files
        for line, used in rooms_used(path)
        if used not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_contributing_lists_the_rooms_in_this_order() -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    assert ", ".join(ROOMS) in " ".join(text.split())


def test_the_package_itself_imports_no_room() -> None:
    assert list(rooms_used(SOURCE / "__init__.py")) == []


def test_the_parser_sees_every_kind_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above passes on a blind parser too, so the parser is shown each form once."""
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    for name in ("train", "cli", "hub", "verify", "report", "launch"):
        (tmp_path / name).mkdir()
    (tmp_path / "verify" / "math.py").write_text(
        "import openr1.train.sft\n"
        "from openr1 import cli, __version__\n"
        "from ..hub import cards\n"
        "from . import base\n"
        "def f():\n"
        "    from openr1.report.tables import table\n"
        "    importlib.import_module('openr1.launch')\n"
    )
    used = {name for _, name in rooms_used(tmp_path / "verify" / "math.py")}
    assert used == {"train", "cli", "hub", "verify", "report", "launch"}


def test_light_modules_import_without_torch() -> None:
    """Settings, grading, tasks, config and the command line start without torch and the libraries around it."""
    light = [name for name in ROOMS if name in present() and light_room(name)]
    settings = ["openr1." + ".".join(p.relative_to(SOURCE).parent.parts + ("settings",)) for p in settings_files()]
    modules = [f"openr1.{name}" for name in light] + settings
    script = f"""
import importlib, json, sys
blame = {{}}
for module in {modules!r}:
    importlib.import_module(module)
    for heavy in {HEAVY!r}:
        if heavy in sys.modules:
            blame.setdefault(heavy, module)
print(json.dumps(blame))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}, "imported at import time, by the module named"


def light_room(name: str) -> bool:
    """Every room up to rewards, and those that compose and plan; __main__ would run the program."""
    return ROOMS.index(name) <= ROOMS.index("rewards") or name in ("config", "launch", "cli")


def settings_files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("settings.py") if path.parent != SOURCE)
