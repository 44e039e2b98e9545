"""The battery on the tier found, in `make test` a part of it; all of it, on every tier and as two users, when slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import attacks
import battery
import pytest

import openr1
from openr1.sandbox import host, tiers

HERE = Path(__file__).parent
ORDINARY = 12345


def failures(tier: str, folder: Path, user: int | None, *more: str) -> dict[str, list[str]]:
    """Run the battery in a process of its own, as another user where one is named."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "OPENR1_CACHE": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    program, identity = sys.executable, {}
    if user is not None:
        os.chown(folder, user, user)
        program = host.interpreter().path
        packages = [Path(openr1.__file__).parents[1], *(p for p in sys.path if p.endswith("site-packages"))]
        environment["PYTHONPATH"] = os.pathsep.join(map(str, packages))
        identity = {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(
        [program, str(HERE / "battery.py"), tier, *more],
        env=environment, cwd="/", capture_output=True, text=True, timeout=900, **identity,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.stdout, done.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_the_battery_is_large_and_its_names_are_unique() -> None:
    names = [attack.name for attack in attacks.ATTACKS]
    assert len(names) >= 60
    assert sorted(set(names)) == sorted(names)


def test_the_tier_found_holds(tier: str, tmp_path: Path) -> None:
    assert failures(tier, tmp_path, None, "--quick") == {}


@pytest.mark.slow
@pytest.mark.parametrize("ordinary", [False, True], ids=["this user", "ordinary user"])
def test_every_tier_holds(each_tier: str, ordinary: bool) -> None:
    if ordinary and os.geteuid() != 0:
        pytest.skip("only root can become another user; the other half of this test ran as an ordinary one")
    with tempfile.TemporaryDirectory(prefix="openr1-", dir="/tmp") as folder:  # pytest's own are closed to others
        assert failures(each_tier, Path(folder), ORDINARY if ordinary else None, "--slow") == {}


def test_the_battery_sees_what_gets_out(tmp_path: Path) -> None:
    """The judge itself: an outcome that says ESCAPED, a wrong status, a changed file."""
    from openr1.sandbox import Outcome

    attack = attacks.Attack("x", "", ("ok",), after=lambda outcomes: outcomes[0].exit_code == 0)
    assert battery.judge(attack, [Outcome("ok", b"held", exit_code=0)]) == []
    assert len(battery.judge(attack, [Outcome("error", b"ESCAPED", exit_code=1)])) == 3


def test_probes_are_real() -> None:
    assert any(tiers.probe(name).works for name in tiers.LOCAL_TIERS)
