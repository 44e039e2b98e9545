"""The wheel is whole: it carries what openr1 reads at run time, and runs a recipe where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from openr1 import __version__

ROOT = Path(__file__).resolve().parents[2]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def run(*command: str | Path, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program with nothing of the checkout in its environment; a failure shows its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OPENR1_", "VIRTUAL_ENV"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 or not check, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def tracked(folder: str) -> set[str]:
    """The files that a folder of the checkout ships."""
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_wheel_and_sdist_carry_what_they_must(built: Path) -> None:
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = {name.removeprefix("src/") for name in tracked("src/openr1")}
    data = {f"openr1/_data/{name}" for name in tracked("recipes") | {"constraints.txt"}}
    assert source | data <= names
    assert not [name for name in names if not name.startswith(("openr1/", "openr1-"))]

    with tarfile.open(sdist) as tar:
        files = {name.partition("/")[2] for name in tar.getnames()}
    assert {"Makefile", "LICENSE", "constraints.txt", "scripts/setup.py"} | tracked("recipes") <= files
    assert not [name for name in files if name.startswith((".venv", "runs/", ".git/"))]


def test_every_dependency_is_pinned_within_its_range() -> None:
    """constraints.txt holds a version, allowed by pyproject.toml, for everything that a set-up installs."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines)}
    assert all(re.fullmatch(r"[\w.!-]+", pin) for pin in pins.values()), "exact versions without a build tag"
    for requirement in declared():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} is not in constraints.txt: make setup, then make constraints"
        assert requirement.specifier.contains(pin, prereleases=True), f"{requirement} excludes {pin}"


def test_documents_name_the_versions_that_are_shipped() -> None:
    torch = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert re.findall(r"torch==([\w.]+)", (ROOT / "docs" / "install.md").read_text()) == torch
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def declared() -> list[Requirement]:
    """The requirements of pyproject.toml, with those of the dev extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]


@pytest.mark.slow
def test_wheel_runs_a_recipe_in_an_empty_environment_and_folder(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    empty = tmp_path / "an empty folder"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        constraints = Path(archive.extract("openr1/_data/constraints.txt", tmp_path))
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", constraints]
    # the build of torch that runs these tests, from where docs/install.md says it comes
    torch = ["--no-deps", f"torch=={version('torch')}"]
    if run(*pip, *torch, check=False).returncode:
        run(*pip, *torch, "--index-url", CPU_INDEX)
    run(*pip, wheel)

    openr1 = tmp_path / "env" / "bin" / "openr1"
    assert "run" in run(openr1, "--help", cwd=empty).stdout
    run(openr1, "check", "recipe=tiny_short", cwd=empty)
    run(openr1, "run", "recipe=tiny_short", cwd=empty)
    report = json.loads((empty / "runs" / "tiny_short" / "report.json").read_text())
    assert report["models"]
    assert (empty / "runs" / "tiny_short" / "report.html").stat().st_size > 1000
