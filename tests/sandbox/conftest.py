"""Tiers of this machine. One that does not work here is skipped; on a machine with none, the tests fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openr1.sandbox import Sandbox, tiers


@pytest.fixture(scope="session")
def tier() -> str:
    """The strongest tier that works here; it is an error when there is none."""
    return tiers.choose(None)


@pytest.fixture(scope="module")
def sandbox(tier: str) -> Iterator[Sandbox]:
    with Sandbox(workers=1) as opened:
        yield opened


@pytest.fixture(params=tiers.LOCAL_TIERS)
def each_tier(request: pytest.FixtureRequest) -> str:
    report = tiers.probe(request.param)
    if not report.works:
        pytest.skip(f"tier {report.tier} does not work here: {report.reason}")
    return str(report.tier)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compiled programs of one test run are not those of the last."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("OPENR1_CACHE", str(folder))
    return folder
