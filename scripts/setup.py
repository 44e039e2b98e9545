"""Makes `.venv` ready for this checkout: `make setup [TORCH=auto|cpu|cuda] [PYTHON=python3.12]`.

Only the standard library, in a grammar that Python 3.6 reads, so that a too old Python gets a sentence instead of a
syntax error. When everything is installed the environment is stamped with what it was made from, and the next call
ends in a fraction of a second. A set-up that was killed leaves no stamp but a mark; the next one starts over.

What it does not do: install Python itself, a GPU driver, or anything outside `.venv`.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional, Sequence

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


# the environment that this process makes ready; `use` sets them
VENV: Path
PYTHON: Path
STAMP: Path
UNFINISHED: Path
LOG: Path
SOURCES: List[Path]
TARGET: str
THEN: str


class SetupError(Exception):
    """Something a person has to mend; the text says what was found and what to do."""


def use(name: str, target: str, sources: Sequence[Path], then: str) -> None:
    """Which environment this process makes ready: its folder, the target of make, the files that it is made from."""
    global VENV, PYTHON, STAMP, UNFINISHED, LOG, TARGET, SOURCES, THEN
    VENV = ROOT / name
    PYTHON = VENV / "bin" / "python"
    STAMP = VENV / ".openr1-setup.json"
    UNFINISHED = VENV / ".openr1-unfinished"
    LOG = VENV / "setup.log"
    TARGET, SOURCES, THEN = target, list(sources), then


use(".venv", "setup", [ROOT / "pyproject.toml", CONSTRAINTS], "make demo, or make help")


def main(argv: Optional[List[str]] = None, fill: "Optional[Callable[[Pip, str], None]]" = None) -> int:
    """`fill` installs what belongs into the environment: given pip, and cpu or cuda."""
    name = VENV.name
    parser = argparse.ArgumentParser(prog=f"make {TARGET}", description=f"Make {name} ready for this checkout.")
    parser.add_argument("--torch", default="", help=f"auto, cpu or cuda; by default what {name} has, else auto")
    parser.add_argument("--this-python", action="store_true", help=f"{name} must have the version of this Python")
    parser.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    args = parser.parse_args(argv)
    try:
        return setup(args.torch, args.this_python, args.quiet, fill or fill_main)
    except SetupError as problem:
        print(f"{TARGET}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{TARGET}: interrupted; the next make {TARGET} takes it up again", file=sys.stderr)
        return 130


def setup(torch: str, this_python: bool, quiet: bool, fill: "Callable[[Pip, str], None]") -> int:
    """Compares the stamp with what is wanted, and installs when they differ."""
    if torch not in ("", "auto", "cpu", "cuda"):
        raise SetupError(f"TORCH={torch} is not known; use TORCH=auto, TORCH=cpu or TORCH=cuda")
    began = time.monotonic()
    if torch == "auto":
        torch = detect_torch()
    if current(torch, this_python):
        if not quiet:
            print(f"{TARGET}: {VENV} is up to date (torch for {read_stamp()['torch']})")
        return 0
    with Lock() as lock:
        if current(torch, this_python):  # another set-up made it while this one waited
            return 0
        install(torch or remembered_torch() or detect_torch(), this_python, lock, fill)
    print(f"{TARGET}: done in {time.monotonic() - began:.0f} s; next: {THEN}")
    return 0


# ------------------------------------------------------------------------------------------------ the stamp


def read_stamp() -> Dict[str, Any]:
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def wanted(torch: str, python: str) -> Dict[str, Any]:
    """What an environment is made from: dependencies, constraints, the torch build, the Python, and where it lies."""
    sources = hashlib.sha256()
    for file in SOURCES:
        sources.update(hashlib.sha256(file.read_bytes()).digest())
    return {"home": str(ROOT), "python": python, "sources": sources.hexdigest(), "torch": torch}


def current(torch: str, this_python: bool) -> bool:
    """Whether the environment is what is wanted; what was not asked for is as the stamp has it."""
    stamp = read_stamp()
    if not stamp or not PYTHON.exists():
        return False
    python = running_python() if this_python else str(stamp.get("python"))
    return stamp == wanted(torch or str(stamp.get("torch")), python)


def running_python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


# ------------------------------------------------------------------------------------------------ installing


def install(torch: str, this_python: bool, lock: "Lock", fill: "Callable[[Pip, str], None]") -> None:
    stamp = read_stamp()
    if STAMP.exists():
        STAMP.unlink()
    reason = why_start_over(stamp, torch, this_python)
    if reason:
        create_venv(reason, lock)
    UNFINISHED.write_text(torch)
    pip = Pip(lock)
    try:
        fill(pip, torch)
    except SetupError:
        if not pip.touched:  # nothing was written, so what was there before still works
            UNFINISHED.unlink()
        raise
    UNFINISHED.unlink()
    temporary = STAMP.with_suffix(".tmp")
    temporary.write_text(json.dumps(wanted(torch, venv_python())))
    os.replace(str(temporary), str(STAMP))


def fill_main(pip: "Pip", torch: str) -> None:
    """What `.venv` holds: torch in the wanted build, then openr1 with what it and its tests need."""
    install_torch(pip, torch)
    say("openr1 and what it needs, with the versions of constraints.txt")
    pip.install("--editable", ".[dev,gguf]")


def why_start_over(stamp: Dict[str, Any], torch: str, this_python: bool) -> str:
    """Why the environment has to be made anew; an empty text where it can be brought up to date."""
    again = f"{VENV.name} again from the start"
    if not VENV.exists():
        return f"a new {VENV.name}"
    if UNFINISHED.exists():
        return f"the last set-up did not finish: {again}"
    if stamp and stamp.get("home") != str(ROOT):
        return f"the checkout has moved: {again}"
    if stamp and stamp.get("torch") != torch:
        return f"torch for {torch}, not for {stamp['torch']}: {again}"
    if this_python and venv_python() != running_python():
        return f"Python {running_python()}, not {venv_python()}: {again}"
    if not PYTHON.exists() or subprocess.call([str(PYTHON), "-m", "pip", "--version"], stdout=subprocess.DEVNULL):
        return f"{VENV.name} does not work: again from the start"
    return ""


def create_venv(reason: str, lock: "Lock") -> None:
    check_python()
    say(f"{reason} (Python {running_python()})")
    # PYTHON may be the very environment that is emptied, so the Python it was made from does it
    base = getattr(sys, "_base_executable", None) or sys.executable
    done = subprocess.run(
        [base, "-m", "venv", "--clear", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        pass_fds=(lock.fileno(),),
    )
    if done.returncode:
        raise SetupError(
            f"{base} -m venv failed; on Debian and Ubuntu: apt install python3-venv. It said:\n{done.stdout.strip()}"
        )


def check_python() -> None:
    if sys.version_info[:2] >= OLDEST:
        return
    newer = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
    remedy = f"PYTHON={newer[-1]}" if newer else "PYTHON=/path/to/python3, once one is installed"
    remedy = f"make {TARGET} {remedy}"
    raise SetupError(f"{sys.executable} is Python {running_python()}; openr1 needs 3.11 or newer: {remedy}")


def venv_python() -> str:
    """The version of the environment, such as 3.11; empty where it has none."""
    try:
        text = (VENV / "pyvenv.cfg").read_text()
    except OSError:
        return ""
    found = re.search(r"^version\w*\s*=\s*(\d+\.\d+)", text, re.MULTILINE)
    return found.group(1) if found else ""


# ------------------------------------------------------------------------------------------------ torch


def remembered_torch() -> str:
    """What an earlier set-up, finished or not, was asked for: cpu, cuda or nothing."""
    try:
        torch = str(read_stamp().get("torch", "")) or UNFINISHED.read_text()
    except OSError:
        return ""
    return torch if torch in ("cpu", "cuda") else ""


def detect_torch() -> str:
    """cuda where nvidia-smi lists a GPU, else cpu."""
    program = shutil.which("nvidia-smi")
    if not program:
        return "cpu"
    try:
        done = subprocess.run([program, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "cuda" if done.returncode == 0 and b"GPU" in done.stdout else "cpu"


def install_torch(pip: "Pip", torch: str) -> None:
    """Installs the pinned torch in the wanted build; what torch needs comes with the rest.

    On Linux, PyPI's wheels are the CUDA builds and the CPU builds carry `+cpu` in their version, so a source that
    offers `+cpu` is looked for: first what pip is configured for, then PyTorch's own index. Elsewhere PyPI's
    wheel is the right one.
    """
    version = pinned_torch()
    if torch == "cuda":
        say(f"torch {version}, CUDA build")
        # a configured index may offer +cu128 and the like; of those pip takes the newest
        pip.install("--no-deps", f"torch=={version},!={version}+cpu")
        return
    if not sys.platform.startswith("linux"):
        say(f"torch {version}")
        pip.install("--no-deps", f"torch=={version}")
        return
    if list(VENV.glob(f"lib/python*/site-packages/torch-{version}+cpu.dist-info")):
        return
    index = os.environ.get("TORCH_INDEX") or CPU_INDEX
    sources: List[List[str]] = [[], ["--index-url", index, "--timeout", "10", "--retries", "1"]]
    for source in sources:
        if pip.offers("torch", f"{version}+cpu", source):
            say(f"torch {version}, CPU build" + (f", from {index}" if source else ""))
            pip.install("--no-deps", *source, f"torch=={version}+cpu")
            return
    say(
        f"torch {version}: no CPU build, neither where pip looks nor at {index}. "
        "Taking the default build, which on Linux brings several GB of CUDA packages and runs on the CPU too "
        "(TORCH_INDEX=URL names another index)"
    )
    pip.install("--no-deps", f"torch=={version}")


def pinned_torch() -> str:
    found = re.search(r"^torch==([\w.]+)\s*$", CONSTRAINTS.read_text(), re.MULTILINE)
    if not found:
        raise SetupError(f"{CONSTRAINTS} has no line torch==VERSION; restore the file (git checkout constraints.txt)")
    return found.group(1)


# ------------------------------------------------------------------------------------------------ pip, output, lock


class Pip:
    """The pip of the environment, with the user's own configuration; its output goes to `setup.log` in it."""

    def __init__(self, lock: "Lock") -> None:
        self.command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        self.fds = (lock.fileno(),)
        self.constraints: Optional[Path] = CONSTRAINTS
        self.touched = False  # whether a pip has begun to change what is installed
        LOG.write_text("")

    def offers(self, name: str, version: str, source: List[str]) -> bool:
        """Whether a source has this very version for this machine; one that does not answer in time has not."""
        command = [*self.command, "index", "versions", name, *(source or ["--timeout", "15", "--retries", "1"])]
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                universal_newlines=True,
                timeout=60,
                pass_fds=self.fds,
            )
        except subprocess.TimeoutExpired:
            return False
        return version in re.split(r"[\s,()]+", done.stdout)

    def install(self, *what: str) -> None:
        constraints = ["--constraint", str(self.constraints)] if self.constraints else []
        command = [*self.command, "install", *constraints, *what]
        with LOG.open("a") as log:
            log.write(f"$ {command}\n")
            process = subprocess.Popen(
                command,
                cwd=str(ROOT),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                universal_newlines=True,
                pass_fds=self.fds,
            )
            assert process.stdout
            errors = self.follow(process.stdout, log)
        if process.wait():
            said = "".join(f"\n  {line}" for line in errors)
            raise SetupError(f"pip could not install {what[-1]} (all of it in {LOG}):{said}")

    def follow(self, lines: IO[str], log: IO[str]) -> List[str]:
        """Copies pip's output to the log, shows its newest line on a terminal, and returns its last error lines."""
        terminal = sys.stdout.isatty()
        errors = []
        for line in lines:
            log.write(line)
            self.touched = self.touched or line.startswith("Installing collected packages")
            if line.startswith("ERROR"):
                errors.append(line.strip())
            if terminal:
                width = shutil.get_terminal_size().columns - 1
                print("\r\033[K" + line.strip()[:width], end="", flush=True)
        if terminal:
            print("\r\033[K", end="", flush=True)
        return errors[-5:]


def say(text: str) -> None:
    print(f"{TARGET}: {text}", flush=True)


class Lock:
    """One set-up of a checkout at a time. The children hold it too: a killed set-up's pip may still be writing."""

    def __enter__(self) -> "Lock":
        self._fd = os.open(str(ROOT), os.O_RDONLY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another set-up of this checkout is running; waiting for it")
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd


if __name__ == "__main__":
    sys.exit(main())
