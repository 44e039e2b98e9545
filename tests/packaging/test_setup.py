"""`make setup` on a small checkout of its own: the real script, the real pip, wheels made here, and no network."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKEND = '''
"""The smallest build backend: an editable wheel with one requirement."""
import os, pathlib, time, zipfile

def prepare(folder):
    with zipfile.ZipFile(pathlib.Path(folder, "openr1-0.1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("openr1-0.1.dist-info/METADATA",
            "Metadata-Version: 2.1\\nName: openr1\\nVersion: 0.1\\nProvides-Extra: dev\\nRequires-Dist: torch>=9\\n")
        wheel.writestr("openr1-0.1.dist-info/WHEEL",
            "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("openr1-0.1.dist-info/RECORD", "")
    return "openr1-0.1-py3-none-any.whl"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    if os.environ.get("SLOW_BUILD"):
        pathlib.Path("building").touch()
        time.sleep(60)
    return prepare(wheel_directory)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return prepare(wheel_directory)
'''
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "openr1"
version = "0.1"
"""


def make_wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def clean_environment() -> dict[str, str]:
    """The environment without what pip, or the make that runs these tests, has put into it."""
    outer = {"ARGS", "FILE", "MFLAGS", "PYTHON", "RECIPE", "REPO", "RUN", "STAGE", "TORCH", "TORCH_INDEX", "TYPE"}
    return {k: v for k, v in os.environ.items() if k not in outer and not k.startswith(("PIP_", "MAKE"))}


class Checkout:
    """A checkout with our script, and a package source that offers torch 9.9 in both builds."""

    def __init__(self, folder: Path, builds: tuple[str, ...] = ("9.9", "9.9+cpu")) -> None:
        self.root = folder / "check out"  # a space in the path is nothing special
        self.wheels = folder / "wheels"
        (self.root / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup.py", self.root / "scripts")
        shutil.copy(ROOT / "Makefile", self.root)
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        (self.root / "backend.py").write_text(BACKEND)
        (self.root / "constraints.txt").write_text("torch==9.9\n")
        for build in builds:
            make_wheel(self.wheels, "torch", build)
        self.bin = folder / "bin"  # stands before PATH; holds nvidia-smi in some tests
        self.bin.mkdir()

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment() | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "TORCH_INDEX": "http://127.0.0.1:9/none",
            "PYTHON": sys.executable,
            **more,
        }

    def make(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words], cwd=self.root, env=self.environment(**more), capture_output=True, text=True, timeout=300
        )

    def torch(self) -> str:
        code = "import importlib.metadata as m; print(m.version('torch'))"
        return subprocess.check_output([self.root / ".venv/bin/python", "-c", code], text=True).strip()

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / ".openr1-setup.json"


def test_setup_installs_the_cpu_build_stamps_it_and_is_quick_the_second_time(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.make("setup", "TORCH=cpu")
    assert first.returncode == 0, first.stderr
    assert checkout.torch() == "9.9+cpu"
    assert json.loads(checkout.stamp.read_text())["torch"] == "cpu"

    began = time.monotonic()
    second = checkout.make("setup")
    assert time.monotonic() - began < 15  # well under a second on a quiet machine; a real set-up takes minutes
    assert "up to date" in second.stdout
    assert checkout.make("ready").stdout == ""

    # what is pinned changes: the next call brings .venv up to date in place
    make_wheel(checkout.wheels, "torch", "9.10+cpu")
    (checkout.root / "constraints.txt").write_text("torch==9.10\n")
    third = checkout.make("ready")
    assert third.returncode == 0, third.stderr
    assert checkout.torch() == "9.10+cpu"
    assert "again from the start" not in third.stdout


@pytest.mark.slow
def test_cuda_where_there_is_a_gpu_and_a_choice_is_kept(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    program = checkout.bin / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: test'\n")
    program.chmod(0o755)
    assert checkout.make("setup").returncode == 0
    assert checkout.torch() == "9.9"  # pip alone would prefer 9.9+cpu

    program.unlink()  # the same checkout on a node without a GPU: make test must not change the build
    assert checkout.make("ready").stdout == ""
    switched = checkout.make("setup", "TORCH=auto")
    assert "torch for cpu, not for cuda" in switched.stdout
    assert checkout.torch() == "9.9+cpu"


@pytest.mark.slow
def test_killed_setup_leaves_no_stamp_and_the_next_one_starts_over(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    environment = checkout.environment(SLOW_BUILD="1")
    process = subprocess.Popen(["make", "setup", "TORCH=cpu"], cwd=checkout.root, env=environment, process_group=0)
    wait_for(checkout.root / "building")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not checkout.stamp.exists()

    again = checkout.make("setup")
    assert again.returncode == 0, again.stderr
    assert "did not finish" in again.stdout
    assert checkout.stamp.exists()


@pytest.mark.slow
def test_second_setup_waits_for_the_pip_of_a_killed_one(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    command = [sys.executable, "scripts/setup.py", "--torch", "cpu"]
    process = subprocess.Popen(command, cwd=checkout.root, env=checkout.environment(SLOW_BUILD="1"), process_group=0)
    wait_for(checkout.root / "building")
    process.kill()  # the script alone; its pip goes on
    process.wait()
    waiting = subprocess.Popen(
        command, cwd=checkout.root, env=checkout.environment(), stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert waiting.stdout and "waiting for it" in waiting.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    output, _ = waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert "did not finish" in output


@pytest.mark.slow
def test_failed_download_leaves_what_worked(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.make("setup", "TORCH=cpu").returncode == 0
    (checkout.root / "constraints.txt").write_text("torch==9.11\n")
    failed = checkout.make("setup")
    assert failed.returncode == 2
    assert "pip could not install torch==9.11" in failed.stderr and "Traceback" not in failed.stderr
    assert checkout.torch() == "9.9+cpu"
    (checkout.root / "constraints.txt").write_text("torch==9.9\n")
    mended = checkout.make("setup")
    assert mended.returncode == 0
    assert "again from the start" not in mended.stdout


@pytest.fixture
def silent_index() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/whl/cpu"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for connection in held:
        connection.close()
    thread.join(timeout=5)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux looks for a CPU build")
def test_index_that_does_not_answer_is_given_up(tmp_path: Path, silent_index: str) -> None:
    checkout = Checkout(tmp_path, builds=("9.9",))
    mirror = tmp_path / "simple"
    mirror.mkdir()
    began = time.monotonic()
    done = checkout.make(
        "setup", "TORCH=cpu", TORCH_INDEX=silent_index, PIP_NO_INDEX="0", PIP_INDEX_URL=mirror.as_uri()
    )
    assert time.monotonic() - began < 90
    assert done.returncode == 0, done.stderr
    assert f"no CPU build, neither where pip looks nor at {silent_index}" in done.stdout
    assert checkout.torch() == "9.9"


def test_wrong_words_get_a_sentence(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    wrong = checkout.make("setup", "TORCH=gpu")
    assert wrong.returncode == 2
    assert "use TORCH=auto, TORCH=cpu or TORCH=cuda" in wrong.stderr
    for words, line in (
        (["run"], "run needs RECIPE=, for example: make run RECIPE=tiny"),
        (["logs", "RUN= "], "logs needs RUN=, for example: make logs RUN=tiny"),
        (["publish", "RUN=a", "TYPE=model"], "publish needs REPO="),
    ):
        done = checkout.make(*words)
        assert done.returncode == 2
        assert line in done.stderr and len(done.stderr.splitlines()) == 1


def test_targets_hand_their_values_on_as_they_are(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    program = checkout.root / ".venv" / "bin" / "openr1"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)

    def said(*words: str) -> list[str]:
        return checkout.make("--old-file=ready", *words).stdout.splitlines()

    assert said("run", "RECIPE=my recipe") == ["run", "recipe=my recipe"]
    (checkout.root / "stages=a").touch()  # what a shell would make of stages=[a,b]
    assert said("run", "RECIPE=tiny", "RUN=a 'b'", 'ARGS=stages=[a,b] data.path="x y"') == [
        "run",
        "recipe=tiny",
        "run=a 'b'",
        "stages=[a,b]",
        "data.path=x y",
    ]
    assert said("status") == ["status"]
    assert said("grade", "FILE=my rows.jsonl", "ARGS=--gold gold") == ["grade", "my rows.jsonl", "--gold", "gold"]
    assert said("publish", "RUN=r", "REPO=me/x", "TYPE=model") == [
        "publish",
        "r",
        "--repo",
        "me/x",
        "--type",
        "model",
    ]
    assert said("submit", "RECIPE=tiny", "CLUSTER=test") == ["submit", "recipe=tiny", "cluster=test"]
    assert said("compare", "RUNS=a b") == ["compare", "a", "b"]


def test_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))
    shown = subprocess.check_output(["make", "help"], cwd=ROOT, env=clean_environment(), text=True)
    assert targets - {"ready", "ready-vllm"} == {
        line.split()[0] for line in shown.splitlines() if line.startswith("  ")
    }


def test_old_python_gets_a_sentence(tmp_path: Path) -> None:
    """The script parses as Python 3.6, and says which Python to use instead."""
    for name in ("setup.py", "setup_vllm.py"):
        ast.parse((ROOT / "scripts" / name).read_text(), feature_version=(3, 6))
    code = (
        "import sys; sys.path.insert(0, 'scripts'); sys.dont_write_bytecode = True; import setup\n"
        "sys.version_info = (3, 6, 8); setup.use('.venv-nowhere', 'setup', [], '')\n"
        "sys.exit(setup.main(['--torch', 'cpu']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is Python 3.6; openr1 needs 3.11 or newer" in done.stderr


def wait_for(path: Path, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < limit, f"{path} did not appear"
        time.sleep(0.1)
