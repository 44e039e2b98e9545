"""Runs the attacks on one tier and looks at the world after each; as a program, so that another user can run it.

python battery.py TIER [--slow | --quick]      # prints one JSON list of failures, empty when everything held
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attacks import ATTACKS, COMPILER_BOMBS, Attack

from openr1.sandbox import Outcome, Sandbox

SLOW = COMPILER_BOMBS | {"messages without end"}
SANE = """
import os
def names(path):
    try:
        return os.listdir(path)
    except PermissionError:
        return ["1", "2"] if path == "/proc" else []
print(input(), sorted(names(".")), len([p for p in names("/proc") if p.isdigit()]))
"""
SANE_SAYS = b"well [] 2\n"


class World:
    """What an attack must not change: files, processes and memory outside, and the next program inside."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.marker = folder / "marker"
        self.marker.write_text("untouched")
        self.marker.chmod(0o666)
        self.signals: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGIO, signal.SIGCONT):
            signal.signal(number, lambda got, _: self.signals.append(got))
        self.bystander = subprocess.Popen(["sleep", "1000"], **_as_nobody())
        self.temporary = _temporary()

    def problems(self) -> list[str]:
        found = []
        if self.marker.read_text() != "untouched" or (self.marker.stat().st_mode & 0o777) != 0o666:
            found.append("a file of the host was changed")
        if self.signals:
            found.append(f"signals came out: {self.signals}")
        if self.bystander.poll() is not None:
            found.append("a process of the same user was killed")
        if new := _temporary() - self.temporary:
            found.append(f"files were left in the host's folders: {sorted(new)}")
        if extra := self._strangers():
            found.append(f"processes are left: {extra}")
        [outcome] = self.sandbox.run(SANE, "python", ["well"])
        if (outcome.status, outcome.stdout) != ("ok", SANE_SAYS):
            found.append(f"the next program: {outcome}")
        return found

    def _strangers(self) -> list[str]:
        """Below us there are only the first processes of the sandboxes, after a moment."""
        for _ in range(50):
            extra = [name for pid, name in _below(os.getpid()) if name not in ("sleep", "bwrap") and not _zygote(pid)]
            if not extra:
                return []
            time.sleep(0.1)
        return extra

    def close(self) -> None:
        self.bystander.kill()
        self.bystander.wait()


def _as_nobody() -> dict[str, object]:
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def _temporary() -> set[str]:
    """Files that attacks write, in the folders of the host that everybody may write to."""
    names = {"x", "a", "b", "d", "n", "s", ".hidden", *map(str, range(10))}
    return {
        str(path)
        for folder in ("/tmp", "/dev/shm", "/var/tmp")
        for path in Path(folder).iterdir()
        if path.name in names
    }


def _below(pid: int) -> list[tuple[int, str]]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            try:
                found.append((child, Path(f"/proc/{child}/comm").read_text().strip()))
                found += _below(child)
            except OSError:
                continue
    return found


def _zygote(pid: int) -> bool:
    """The trusted first process waits for the host on its socket and has no children."""
    try:
        return b"inside" in Path(f"/proc/{pid}/cmdline").read_bytes() and not _below(pid)
    except OSError:
        return True


def judge(attack: Attack, outcomes: list[Outcome]) -> list[str]:
    """What is wrong with the outcomes of an attack."""
    found = []
    for outcome in outcomes:
        if outcome.status not in attack.statuses:
            found.append(f"status {outcome.status}: {outcome}")
        if b"ESCAPED" in outcome.stdout:
            found.append(outcome.stdout.decode("utf-8", "replace")[:500])
    if attack.after is not None and not attack.after(outcomes):
        found.append(f"what must hold afterwards does not: {outcomes}")
    return [text[:1500] for text in found]


def run(tier: str, attacks: list[Attack]) -> dict[str, list[str]]:
    """Problems by attack; empty when everything held."""
    os.environ["OPENR1_TEST_TOKEN"] = "SECRET-VALUE"
    failures = {}
    with tempfile.TemporaryDirectory(prefix="openr1-") as folder, Sandbox(workers=1, tier=tier) as sandbox:  # type: ignore[arg-type]
        os.environ["OPENR1_CACHE"] = folder  # everything is compiled in this tier
        world = World(sandbox, Path(folder))
        try:
            for attack in attacks:
                problems = judge(
                    attack, sandbox.run(attack.text(), attack.language, attack.inputs, limits=attack.limits)
                )
                problems += world.problems()
                if problems:
                    failures[attack.name] = problems
        finally:
            world.close()
    return failures


def chosen(tier: str, *options: str) -> list[Attack]:
    """All but what keeps a compiler busy; `--slow` takes that too, `--quick` one in four of what takes time."""
    found = [a for a in ATTACKS if tier in a.tiers and ("--slow" in options or a.name not in SLOW)]
    if "--quick" in options:
        burning = [a for a in found if set(a.statuses) & {"cpu_timeout", "wall_timeout"} or a.language != "python"]
        found = [a for a in found if a not in burning] + burning[::4]
    return found


if __name__ == "__main__":
    failed = run(sys.argv[1], chosen(*sys.argv[1:]))
    print(json.dumps(failed))
    sys.exit(1 if failed else 0)
