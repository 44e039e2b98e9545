"""Numbers, escaping, the choice of samples and the funnel's reasons."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr1.report import charts, html, markdown
from openr1.report import numbers as show
from openr1.report.document import Cell, Column, Comparison, Sample, Table, printable
from openr1.report.load import load_run
from openr1.report.samples import pairs_of
from openr1.report.tables import reasons_of


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (show.percent(0.1234), "12.3%"),
        (show.percent(None), "–"),
        (show.percent(math.nan), "–"),
        (show.interval(0.101, 0.149), "10.1 to 14.9"),
        (show.interval(None, 0.1), ""),
        (show.compact(9_999), "9,999"),
        (show.compact(12_345), "12.3k"),
        (show.compact(4_560_000), "4.56M"),
        (show.scientific(2.44e12), "2.4e12"),
        (show.duration(8.44), "8.4 s"),
        (show.duration(59.97), "1 min 00 s"),
        (show.duration(185), "3 min 05 s"),
        (show.duration(7_800), "2 h 10 min"),
        (show.measure(5e-5), "5e-5"),
        (show.plural(1, "step"), "1 step"),
        (show.plural(1200, "step"), "1,200 steps"),
    ],
)
def test_numbers_read_well(shown: str, wanted: str) -> None:
    assert shown == wanted


@given(st.text())
def test_any_completion_survives_in_html_and_markdown(text: str) -> None:
    block = Comparison("p", text, text, [Sample("m", text, "wrong", "bad", text)])
    page = html.render(block)
    page.encode("utf-8")
    tags = page.replace(html.esc(text), "")
    assert "<script" not in tags
    markdown.render(block).encode("utf-8")


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Cf"])))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_invisible_and_directional_characters_are_made_visible() -> None:
    assert printable("a\x00b\x1b[1m\u202ec\ud800") == "a\u2400b\u241b[1m\ufffdc\ufffd"


@given(st.text())
def test_a_markdown_cell_stays_one_cell(text: str) -> None:
    table = markdown.render(Table([Column("a"), Column("b")], [[Cell(text), "x"]]))
    lines = table.splitlines()
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == 3


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert markdown.fenced("a ```` b").startswith("`````text\n")


def test_the_chosen_prompts_are_fixed_ones_then_each_kind_of_change(finished: Path) -> None:
    (pair,) = pairs_of(load_run(finished))
    chosen = pair.chosen()
    assert chosen == pair.chosen()
    assert [p for why, p in chosen if why == "Fixed choice"] == pair.shared[:2]
    assert len({p for _, p in chosen}) == len(chosen)
    outcomes = {"Newly right": (False, True), "Newly wrong": (True, False), "Still wrong": (False, False)}
    for why, prompt_id in chosen:
        if why in outcomes:
            assert pair.outcome(prompt_id) == outcomes[why]


def test_reasons_are_those_of_dropped_rows() -> None:
    counts = {"in": 10, "out": 5, "prompts": 7, "splits": {"train": 5}, "dropped": {"no_answer": 4, "too long": 1}}
    assert reasons_of(counts) == {"no answer": 4, "too long": 1}
    assert reasons_of({"in": 10, "dropped": 3}) == {"dropped": 3}
    assert reasons_of({"in": 10, "out": 10}) == {}


def test_smoothing_keeps_a_straight_line_straight() -> None:
    line = [2.0 * i for i in range(40)]
    assert charts.smooth(line, 7) == pytest.approx(line)


def test_a_very_long_curve_stays_small_and_keeps_its_extremes() -> None:
    points = [(float(i), float(i % 100)) for i in range(20_000)]
    steps, means, lows, highs = charts.binned(points, 200)
    assert len(steps) == 200 and min(lows) == 0 and max(highs) == 99
    assert means == pytest.approx([49.5] * 200)
    figure = charts.line_chart("x", [charts.Series("a", *zip(*points, strict=True))])
    assert figure is not None and len(figure.svg) < 60_000


def test_a_chart_without_values_is_none() -> None:
    assert charts.line_chart("x", [charts.Series("a", [1, 2], [None, math.nan])]) is None
    assert charts.interval_chart("x", {"greedy": [charts.Estimate("m", None, None, None)]}) is None
    assert charts.stack_chart("x", {"s": {"train": 0.0}}, ["train"], "seconds") is None


def test_a_chart_survives_hostile_labels_and_gaps() -> None:
    figure = charts.line_chart("a<b>&", [charts.Series("$x_{<y>", [1, 2, 3], [0.5, None, math.inf])])
    assert figure is not None
    assert "<b>" not in figure.svg and "a&lt;b&gt;&amp;" in figure.svg
