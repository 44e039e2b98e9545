"""Charts as inline SVG, drawn by matplotlib.

Colours are written as CSS variables, so that one drawing is right on a light and on a dark page; text stays text.
Each chart is small on purpose: a narrow screen shows one, a wide one a row of them, all at a readable size.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openr1.records import stable_hash
from openr1.report.document import Figure
from openr1.report.numbers import finite, measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that stand for a CSS variable of the page: nothing else in a drawing uses them.
INK, QUIET, GRID = "#010203", "#010204", "#010205"
SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006")
DASHES: tuple[Any, ...] = (
    "-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1, 2)), (0, (7, 2, 1, 2, 1, 2)), (0, (3, 1)),
)  # fmt: skip
VARIABLES = {INK: "--ink", QUIET: "--quiet", GRID: "--grid"} | {c: f"--series-{i + 1}" for i, c in enumerate(SERIES)}
MOST_POINTS = 500
PIXELS = 72  # SVG points an inch, so that sizes below are CSS pixels


@dataclass(frozen=True)
class Look:
    """The colour and the dashes of a line, as places in SERIES and DASHES."""

    colour: int
    dash: int


@dataclass(frozen=True)
class Series:
    """One line: its steps and its values, None where a step has none. `look`: by its place where it has none."""

    label: str
    steps: Sequence[float]
    values: Sequence[float | None]
    look: Look | None = None

    def points(self) -> list[tuple[float, float]]:
        both = zip(self.steps, self.values, strict=True)
        return [(float(step), v) for step, raw in both if (v := finite(raw)) is not None]


@dataclass(frozen=True)
class Estimate:
    """A rate with its 95% interval."""

    label: str
    value: float | None
    low: float | None
    high: float | None


@contextmanager
def drawing(width: int, height: int, margins: Mapping[str, float] | None = None) -> Iterator[tuple[Any, Axes]]:
    """A drawing of that many CSS pixels; `margins` (pixels) fixes its frame, else it is measured, which is slow."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "openr1", "font.size": 11, "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"], "axes.edgecolor": QUIET, "axes.labelcolor": QUIET, "text.color": INK,
        "xtick.color": QUIET, "ytick.color": QUIET, "axes.spines.top": False, "axes.spines.right": False,
        "axes.linewidth": 0.8, "grid.color": GRID, "grid.linewidth": 0.8, "axes.grid": True, "axes.axisbelow": True,
        "lines.linewidth": 1.8, "legend.frameon": False, "legend.fontsize": 10, "axes.formatter.useoffset": False,
        "text.parse_math": False,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(width / PIXELS, height / PIXELS), layout=None if margins else "constrained")
        axes = canvas.add_subplot()
        if margins:
            left, right = margins["left"] / width, 1 - margins["right"] / width
            canvas.subplots_adjust(left, margins["bottom"] / height, right, 1 - margins["top"] / height)
        axes.tick_params(length=0)
        yield canvas, axes


def svg_of(canvas: Any, title: str, alt: str) -> str:
    """The drawing as an <svg> element for an HTML page: scalable, named, free of ids that would clash."""
    out = io.StringIO()
    canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    salt = stable_hash(title, alt, body, length=8)
    body = re.sub(r'id="([mp][0-9a-f]{6,})"', rf'id="\1-{salt}"', body)
    body = re.sub(r'(url\(#|href="#)([mp][0-9a-f]{6,})', rf"\1\2-{salt}", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"\n\s*", "\n", body)
    box = re.search(r'viewBox="([^"]+)"', body)
    head = f'<svg viewBox="{box.group(1) if box else "0 0 320 200"}" role="img" aria-labelledby="t-{salt} d-{salt}">'
    names = f'<title id="t-{salt}">{escaped(title)}</title><desc id="d-{salt}">{escaped(alt)}</desc>'
    return head + names + body[body.index(">") + 1 :].strip()


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred moving average; towards both ends the window shrinks evenly, so that it stays centred."""
    out = []
    for i in range(len(values)):
        half = min(window // 2, i, len(values) - 1 - i)
        part = values[i - half : i + half + 1]
        out.append(sum(part) / len(part))
    return out


def binned(points: Sequence[tuple[float, float]], bins: int) -> tuple[list[float], ...]:
    """Points in `bins` groups of equal count: their mean steps, mean values, lowest and highest values."""
    edges = [len(points) * i // bins for i in range(bins + 1)]
    groups = [points[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a]
    values = [[v for _, v in group] for group in groups]
    return (
        [sum(s for s, _ in group) / len(group) for group in groups],
        [sum(v) / len(v) for v in values],
        [min(v) for v in values],
        [max(v) for v in values],
    )


def line_chart(
    title: str,
    series: Sequence[Series],
    share: bool = False,
    zero: bool = False,
    legend: bool = True,
    axis: str = "step",
) -> Figure | None:
    """Values by step, or whatever `axis` calls it; None where no series has a value. `share` fixes the axis of values
    to 0–100%, `zero` starts it at 0. Lines that have a look are all drawn, others up to the number of colours.

    A series of more than 30 points is drawn faintly, with its moving average over a tenth of it on top; of more than
    MOST_POINTS as a band from the lowest to the highest of neighbouring steps.
    """
    drawn = [s for s in series if s.points()]
    drawn = [s for i, s in enumerate(drawn) if s.look or i < len(SERIES)]
    if not drawn:
        return None
    legend = legend and len(drawn) > 1
    lines_of_legend = (len(drawn) + 1) // 2 if legend else 0
    margins = {"left": 46, "right": 8, "bottom": 33, "top": 6 + 15 * lines_of_legend}
    with drawing(320, 200, margins) as (canvas, axes):
        for i, one in enumerate(drawn):
            look = one.look or Look(i, i)
            _line(axes, one, SERIES[look.colour], DASHES[look.dash])
        _scale(axes, drawn, share, zero)
        if legend:
            canvas.legend(
                loc="upper left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.8, columnspacing=1, borderpad=0,
                borderaxespad=0.2, labelspacing=0.3,
            )  # fmt: skip
        axes.set_xlabel(axis, fontsize=10, labelpad=2)
        alt = "; ".join(_spoken(s, axis) for s in drawn)
        return Figure(title, svg_of(canvas, title, alt), alt)


def key_of(label: str, look: Look) -> Figure:
    """A line of that look as a small drawing, for a legend that several charts share."""
    dash = DASHES[look.dash]
    pattern = "" if dash == "-" else f' stroke-dasharray="{" ".join(str(1.8 * x) for x in dash[1])}"'
    style = f"stroke:var(--series-{look.colour + 1});stroke-width:2.2"
    line = f'<line x1="0" y1="5" x2="28" y2="5"{pattern} style="{style}"/>'
    return Figure(label, f'<svg viewBox="0 0 28 10" aria-hidden="true">{line}</svg>', label)


def _line(axes: Any, one: Series, colour: str, dash: Any) -> None:
    points = one.points()
    steps, values = [p[0] for p in points], [p[1] for p in points]
    if len(points) > MOST_POINTS:
        steps, values, lows, highs = binned(points, MOST_POINTS // 2)
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.2, linewidth=0)
        values = smooth(values, len(values) // 10)
    elif len(points) > 30:
        axes.plot(steps, values, color=colour, linewidth=0.9, alpha=0.35)
        values = smooth(values, max(3, len(points) // 10))
    marker = "o" if len(points) < 15 else None
    axes.plot(steps, values, color=colour, linestyle=dash, marker=marker, markersize=3.5, label=one.label)


def _scale(axes: Any, drawn: Sequence[Series], share: bool, zero: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if share:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
        return
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: measure(v)))
    if zero:
        top = max(v for s in drawn for _, v in s.points())
        axes.set_ylim(0, top * 1.08 if top > 0 else 1)


def _spoken(one: Series, axis: str) -> str:
    points = one.points()
    ends = f"{measure(points[0][1])} at {axis} {points[0][0]:.0f}"
    if len(points) > 1:
        ends += f", {measure(points[-1][1])} at {axis} {points[-1][0]:.0f}"
    return f"{one.label}: {ends}"


def interval_chart(title: str, groups: Mapping[str, Sequence[Estimate]]) -> Figure | None:
    """Rates with 95% intervals, one line a label, one colour and shape a group (greedy, sampled)."""
    labels = list(dict.fromkeys(e.label for group in groups.values() for e in group if e.value is not None))
    if not labels:
        return None
    with drawing(380, 62 + (14 + 8 * max(2, len(groups))) * len(labels)) as (canvas, axes):
        for i, (name, group) in enumerate(groups.items()):
            for e in group:
                if e.value is not None:
                    y = labels.index(e.label) + 0.26 * (i - (len(groups) - 1) / 2)
                    _dot(axes, e, y, SERIES[i], "osD"[i % 3])
            axes.plot([], [], color=SERIES[i], marker="osD"[i % 3], linestyle="-", label=name, markersize=5)
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        _rate_axis(
            axes, max(e.value if e.high is None else e.high for g in groups.values() for e in g if e.value is not None)
        )
        canvas.legend(loc="outside upper right", ncols=len(groups), borderpad=0, borderaxespad=0.2)
        alt = "; ".join(
            f"{e.label} {name} {100 * e.value:.1f}%"
            for name, group in groups.items()
            for e in group
            if e.value is not None
        )
        return Figure(title, svg_of(canvas, title, alt), alt, width=560)


def _dot(axes: Any, e: Estimate, y: float, colour: str, marker: str) -> None:
    if e.low is not None and e.high is not None:
        axes.plot([e.low, e.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot([e.value], [y], color=colour, marker=marker, markersize=5)


def _rate_axis(axes: Any, highest: float) -> None:
    """From 0 to 100%, or less far where all rates are low and would lie on each other."""
    from matplotlib.ticker import FuncFormatter

    end = next((top for top in (0.04, 0.1, 0.2, 0.4) if highest <= top), 1.0)
    axes.set_xlim(-0.02 * end, 1.02 * end)
    axes.set_xticks([i * end / 4 for i in range(5)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: mark(v)))


def mark(rate: float) -> str:
    """A rate at an axis, with as many decimals as it has: 2.5%, 50%."""
    return f"{round(100 * rate, 4):g}%"


def stack_chart(title: str, bars: Mapping[str, Mapping[str, float]], parts: Sequence[str], unit: str) -> Figure | None:
    """Horizontal stacked bars: {label: {part: amount}}, parts in the order given, `unit` under the axis."""
    if not any(amount > 0 for bar in bars.values() for amount in bar.values()):
        return None
    labels = list(bars)
    with drawing(380, (66 if len(parts) > 1 else 44) + 26 * len(labels)) as (canvas, axes):
        left = [0.0] * len(labels)
        for i, part in enumerate(parts):
            amounts = [max(0.0, bars[label].get(part, 0.0)) for label in labels]
            colour = QUIET if part == "other" else SERIES[i % len(SERIES)]
            axes.barh(labels, amounts, left=left, color=colour, height=0.62, label=part, alpha=0.9)
            left = [a + b for a, b in zip(left, amounts, strict=True)]
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(unit, fontsize=10)
        if len(parts) > 1:
            canvas.legend(
                loc="outside upper right", ncols=min(5, len(parts)), borderpad=0, borderaxespad=0.2, handlelength=1
            )
        alt = "; ".join(f"{label} {measure(sum(bar.values()))} {unit}".rstrip() for label, bar in bars.items())
        return Figure(title, svg_of(canvas, title, alt), alt, width=560)
