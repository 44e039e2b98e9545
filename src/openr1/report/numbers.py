"""Numbers as people read them. Every function turns None into a dash, so that what is not known looks so."""

from __future__ import annotations

import math
from typing import Any

DASH = "–"


def finite(value: Any) -> float | None:
    """`value` as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: Any, digits: int = 1) -> str:
    """A rate in 0–1 as a percentage: 0.1234 is '12.3%'."""
    x = finite(value)
    return DASH if x is None else f"{100 * x:.{digits}f}%"


def interval(low: Any, high: Any) -> str:
    """A 95% interval of rates: '10.1 to 14.9'."""
    a, b = finite(low), finite(high)
    return "" if a is None or b is None else f"{100 * a:.1f} to {100 * b:.1f}"


def integer(value: Any) -> str:
    x = finite(value)
    return DASH if x is None else f"{round(x):,}"


def decimal(value: Any, digits: int = 1) -> str:
    x = finite(value)
    return DASH if x is None else f"{x:,.{digits}f}"


def compact(value: Any) -> str:
    """A count in at most four figures: 12.3k, 4.56M."""
    x = finite(value)
    if x is None:
        return DASH
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(x) >= size:
            scaled = x / (1e3 if unit == "k" else size)
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{unit}"
    return f"{round(x):,}"


def scientific(value: Any) -> str:
    """FLOPs: 2.4e+12 as '2.4e12'."""
    x = finite(value)
    if x is None:
        return DASH
    if x == 0:
        return "0"
    mantissa, exponent = f"{x:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: Any) -> str:
    """Seconds as '8.4 s', '3 min 05 s' or '2 h 10 min'."""
    x = finite(seconds)
    if x is None:
        return DASH
    if x < 59.95:
        return f"{x:.1f} s"
    whole = round(x)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def measure(value: Any) -> str:
    """A metric of any size, in about four figures."""
    x = finite(value)
    if x is None:
        return DASH
    if x != 0 and abs(x) < 1e-4:
        mantissa, exponent = f"{x:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{x:,.4g}" if abs(x) < 1e4 else f"{x:,.0f}"


def plural(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def cleaned(value: Any) -> Any:
    """`value` with every number that JSON cannot hold (NaN, infinities) as None."""
    if isinstance(value, dict):
        return {str(k): cleaned(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
