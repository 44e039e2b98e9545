"""The public door: running programs, what an outcome says, bad requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from openr1.errors import UserError
from openr1.sandbox import Case, Limits, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as opened:
        yield opened


def test_each_input_is_a_run_of_its_own(sandbox: Sandbox) -> None:
    outcomes = sandbox.run("print(int(input()) * 2)", "python", ["21", b"4\n", "x"])
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "error"]
    assert [outcome.stdout for outcome in outcomes] == [b"42\n", b"8\n", b""]
    assert b"ValueError" in outcomes[2].stderr and outcomes[2].exit_code == 1


def test_async() -> None:
    async def both() -> list[bytes]:
        async with Sandbox(workers=2) as sandbox:
            runs = [sandbox.run_async(f"print({n})", "python", [""]) for n in range(2)]
            return [outcome.stdout for [outcome] in await asyncio.gather(*runs)]

    assert asyncio.run(both()) == [b"0\n", b"1\n"]
