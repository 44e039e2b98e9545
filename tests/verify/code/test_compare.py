"""Outputs and values against what was expected."""

from __future__ import annotations

import pytest

from openr1.verify.code.compare import same_output, same_value
from openr1.verify.code.values import as_json, decode


@pytest.mark.parametrize(
    ("found", "expected", "lines", "tokens", "exact"),
    [
        (b"1\n2\n", b"1\n2\n", True, True, True),
        (b"1\n2", b"1\n2\n", True, True, False),
        (b"1  \n2\r\n\n\n", b"1\n2", True, True, False),
        (b"1\n", b"1\n2\n", False, False, False),  # only the first line
        (b"1\n2\njunk\n", b"1\n2\n", False, False, False),  # the right output and more
        (b"", b"1\n", False, False, False),
        (b"1 2\n", b"1\n2\n", False, True, False),
        (b" 1\n", b"1\n", False, True, False),
        (b"YES\n", b"yes\n", False, False, False),
    ],
)
def test_all_of_an_output_counts(found: bytes, expected: bytes, lines: bool, tokens: bool, exact: bool) -> None:
    assert same_output(found, expected) is lines
    assert same_output(found, expected, "tokens") is tokens
    assert same_output(found, expected, "exact") is exact


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (b"0.3000000001", b"0.3", True),
        (b"1e6 x", b"1000000 x", True),
        (b"0.31", b"0.3", False),
        (b"0.3 0.3", b"0.3", False),
        (b"nan", b"0.3", False),
        (b"1_0", b"10", False),
        (b"x", b"0.3", False),
    ],
)
def test_floats_may_differ_by_the_tolerance(found: bytes, expected: bytes, same: bool) -> None:
    assert same_output(found, expected, "floats") is same


def test_a_tolerance_can_be_given() -> None:
    assert same_output(b"0.31", b"0.3", "floats", 0.05)


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (1, 1, True), (1, 1.0, False), (True, 1, False), (None, False, False), ("1", 1, False), ([1, 2], [1, 2], True),
        ([1, 2], [1, 2, 3], False), ([1, 2, 3], [1, 2], False), ({"a": [0.1 + 0.2]}, {"a": [0.3]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False), (float("nan"), float("nan"), True), (float("inf"), 1e308, False),
    ],
)  # fmt: skip
def test_values_are_compared_with_their_types(found: object, expected: object, same: bool) -> None:
    assert same_value(found, expected) is same


def test_only_plain_values_come_back() -> None:
    assert decode(b'{"tuple": [1, {"float": "nan"}]}')[0] == 1
    assert as_json((1, {2: (3,)})) == [1, {"2": [3]}]
    for text in (b"", b"{", b'{"class": 1}', b'{"float": "x"}', b'{"a": 1, "b": 2}', b"[" * 5000):
        with pytest.raises(ValueError):
            decode(text)
    with pytest.raises(ValueError, match="JSON has no set"):
        as_json({1, 2})
