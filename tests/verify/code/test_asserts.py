"""Which asserts become calls, and what they then hold of."""

from __future__ import annotations

from typing import Any

import pytest

from openr1.verify.code.asserts import convert


def check(body: str) -> str:
    return "METADATA = {'author': 'x'}\n\ndef check(candidate):\n" + "".join(
        f"    {line}\n" for line in body.split("\n")
    )


@pytest.mark.parametrize(
    ("body", "results", "holds"),
    [
        ("assert candidate(2, [3]) == 5", [5], True),
        ("assert candidate(2, [3]) == 5", [6], False),
        ("assert candidate(x=1) == (1, 2), 'message'", [[1, 2]], False),
        ("assert candidate('a') is None", [None], True),
        ("assert not candidate(1)", [0], True),
        ("assert abs(candidate(0.5) - 0.25) < 1e-6", [0.2500000001], True),
        ("assert abs(candidate(0.5) - 0.25) < 1e-6", [None], False),
        ("assert candidate(1) == candidate(2)", [3, 3], True),
        ("assert math.isclose(candidate(1), 0.1)", [0.1], True),
        ("assert candidate(1)[0] == 7", [[7]], True),
        ("assert candidate(1)[0] == 7", [[]], False),
        ("assert candidate(3) * 2 == 6", [3], True),
        ("assert candidate(3) ** 10 > 1", [1 << 100_000], False),
    ],
)
def test_an_assert_of_literals_becomes_its_calls(body: str, results: list[Any], holds: bool) -> None:
    found = convert(check(body), "solve")
    assert found is not None and len(found) == 1
    assert len(found[0].calls) == len(results)
    assert found[0].holds(results) is holds


def test_all_asserts_are_kept_and_idle_statements_left_out() -> None:
    found = convert(
        check("'''doc'''\nimport math\nassert True, 'ok'\nassert candidate(1) == 1\nassert candidate(2) == 4"), "f"
    )
    assert found is not None and [c.calls[0].positional for c in found] == ["(1,)", "(2,)"]


def test_asserts_by_the_functions_name() -> None:
    found = convert("assert f([1]) == 1\nassert f([]) == None", "f")
    assert found is not None and len(found) == 2


@pytest.mark.parametrize(
    "code",
    [
        check("for i in range(3):\n    assert candidate(i) == i"),
        check("x = 3\nassert candidate(x) == 3"),
        check("assert candidate(open('f')) == 3"),
        check("assert candidate(1) == helper(1)"),
        check("assert candidate(1).__class__ == int"),
        check("assert (lambda: candidate(1))() == 1"),
        check("assert [candidate(1)] == [x for x in (1,)]"),
        check("assert False"),
        check("assert True"),
        "def helper(x):\n    return x\n" + check("assert candidate(1) == 1"),
        "assert f(1) == 1\nprint('done')",
        "this is no Python",
    ],
)
def test_what_is_more_than_literals_is_not_converted(code: str) -> None:
    assert convert(code, "f") is None


def test_without_a_name_nothing_is_converted() -> None:
    assert convert("assert f(1) == 1", None) is None
