"""Units and labels behind a number: `5 cm`, `5\\text{ meters}`, `$5`, `5 apples`, `30^\\circ`.

A unit is compared by its canonical name, never converted: 5 cm and 5 m differ, and so do 100 cm and 1 m.
"""

from __future__ import annotations

import re
from functools import cache

from openr1.verify.grammar import names

_NAMES = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre mtr", "km": "kilometer kilometre",
    "in": "inch inche", "ft": "foot feet", "yd": "yard", "mi": "mile", "mg": "milligram", "g": "gram gm gramme",
    "kg": "kilogram kilo", "lb": "pound", "oz": "ounce", "t": "ton tonne", "ml": "milliliter millilitre mL",
    "l": "liter litre L", "gal": "gallon", "s": "second sec", "min": "minute", "h": "hour hr", "day": "day d",
    "week": "week wk", "month": "month mo", "year": "year yr", "hz": "hertz Hz", "n": "newton N", "j": "joule J",
    "w": "watt W", "v": "volt V", "a": "ampere amp A", "k": "kelvin K", "pa": "pascal Pa", "mol": "mole",
    "ohm": "ohm Ω Omega",
    "deg": "degree °", "degc": "°C celsius centigrade", "degf": "°F fahrenheit", "rad": "radian", "mph": "mph",
    "kmh": "kph kmph", "$": "dollar usd USD buck", "cent": "cent ¢", "€": "euro eur EUR", "£": "gbp GBP",
    "¥": "yen jpy JPY yuan rmb", "₹": "rupee rs inr INR Rs", "%": "percent percentage pct",
    "unit": "unit", "am": "am a.m AM", "pm": "pm p.m PM", "ms": "millisecond", "kw": "kilowatt kW", "kwh": "kWh",
    "mw": "MW megawatt", "ha": "hectare", "acre": "acre", "nm": "nanometer nm", "ev": "eV", "c": "coulomb",
    "kj": "kJ kilojoule", "kn": "kN", "mpa": "MPa", "kpa": "kPa", "atm": "atm", "cal": "calorie", "kcal": "kcal",
    "db": "dB", "gb": "GB gigabyte", "mb": "MB megabyte", "byte": "byte", "bit": "bit", "kmps": "km/s",
}  # fmt: skip
_CANONICAL = {name: unit for unit, names in _NAMES.items() for name in (unit, *names.split())}
_LETTERS = frozenset({"m", "s", "g", "h", "L", "l", "N", "J", "W", "V", "A", "K", "C"})
"""Single letters that may be a unit, but only behind a space: `5 m` is a length, `5m` a product."""

CURRENCY = {"\\$": "$", "$": "$", "€": "€", "£": "£", "¥": "¥", "₹": "₹", "\\euro": "€", "\\pounds": "£"}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_NO_LABEL = names(
    "more less least most not no than approximately about around if when mod modulo remainder half quarter negative "
    "minus plus squared or and times over greater fewer only except where for does do is are was equal between from "
    "to but unknown undefined false true maybe perhaps all none zero one two three four five six seven eight nine ten"
)
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


def known_word(word: str) -> bool:
    """Whether a bare word (no text command around it) reads as a unit."""
    return len(word) > 1 and (_singular(word) in _CANONICAL or word in _POWERS or word in SCALES)


def unit_letter(word: str) -> bool:
    return word in _LETTERS


def _singular(word: str) -> str:
    if word in _CANONICAL:
        return word
    low = word.lower()
    if low in _CANONICAL:
        return low
    for ending in ("es", "s"):
        if low.endswith(ending) and low[: -len(ending)] in _CANONICAL:
            return low[: -len(ending)]
    return low


@cache
def canonical_unit(text: str) -> str | None:
    r"""The name to compare a unit by; None when the words are no label.

    >>> canonical_unit("square centimeters"), canonical_unit("cm^2"), canonical_unit("m/s")
    ('cm^2', 'cm^2', 'm s^-1')
    """
    text = " ".join(text.replace("{", " ").replace("}", " ").split())
    text = text.replace("\\cdot", " ").replace("\\", "").replace("{", "").replace("}", "").replace("circ", "°")
    text = re.sub(r"\^ ?° ?", "°", text).replace("² ", "^2").replace("²", "^2").replace("³", "^3")
    text = re.sub(r"\s*/\s*", "/", re.sub(r"\s*\^\s*", "^", text)).strip(" .,")
    text = re.sub(r"\b(sq|cu|in|ft|yd|mi|lb|oz|hr|min|sec)\s*\.", r"\1", text).replace("- ", "-").replace("*", " ")
    text = re.sub(r"/\s*\(([^()/]*)\)", lambda m: "/" + "/".join(m[1].split()), text)
    text = re.sub(r"°\s*([CFK])\b", r"°\1", text)
    text = re.sub(r"\bdegrees?\s+(celsius|centigrade|fahrenheit|C|F)\b", r"\1", text, flags=re.IGNORECASE)
    text = text.replace("degrees", "degree") if text not in ("C", "F") else "°" + text
    text = re.sub(r"\b([ap])\s*\.?\s*m\b\.?", r"\1m", text, flags=re.IGNORECASE)
    text = re.sub(r"\s+per\s+", "/", text)
    words = text.split()
    if not words or len(words) > 5 or any(word.lower() in _NO_LABEL for word in words if word not in _POWERS):
        return None
    parts: list[str] = []
    power = 0
    for word in words:
        if word.lower() in _POWERS:
            if word.lower() in ("squared", "cubed") and parts:
                parts[-1] += f"^{_POWERS[word.lower()]}"
            else:
                power = _POWERS[word.lower()]
            continue
        name = "/".join(_piece(piece) for piece in word.split("/"))
        parts.append(f"{name}^{power}" if power else name)
        power = 0
    if not parts:  # "square" alone
        return None
    name = " ".join(part for part in parts if part not in ("of", "the", "a"))
    if " " in name or "/" in name or "^-" in name:
        name = _product(name) or name
    return {"h^-1 km": "kmh", "h^-1 mi": "mph", "unit^2": "unit", "unit^3": "unit"}.get(name, name) or None


def _product(name: str) -> str | None:
    """Known units multiplied and divided, in one order: `m/s` and `m s^-1` are `m s^-1`; None for other words."""
    powers: dict[str, int] = {}
    for mark, base, power in re.findall(r"(/?)([^\s/^]+)(?:\^(-?\d{1,2}))?", name):
        if base not in _CANONICAL:
            return None
        powers[base] = powers.get(base, 0) + int(power or 1) * (-1 if mark else 1)
    rebuilt = [base if k == 1 else f"{base}^{k}" for base, k in sorted(powers.items()) if k]
    return " ".join(rebuilt) or None


def _piece(piece: str) -> str:
    base, mark, power = piece.partition("^")
    if base in _CANONICAL:
        name = _CANONICAL[base]
    else:
        single = _singular(base)
        name = _CANONICAL.get(single) or (single[:-1] if len(single) > 3 and single.endswith("s") else single)
    return name + mark + power
