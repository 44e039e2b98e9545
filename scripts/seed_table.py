"""Runs of one recipe with different seeds as one Markdown table, for docs/experiments.md.

python scripts/seed_table.py runs/tiny-0 runs/tiny-1 runs/tiny-2
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def load(run: str) -> dict[str, Any]:
    return json.loads((Path(run) / "report.json").read_text(encoding="utf-8"))


def percent(part: dict[str, Any] | None) -> str:
    """`75.2 [71.3, 78.7]`, or a dash."""
    if not part:
        return "–"
    return f"{100 * part['accuracy']:.1f} [{100 * part['low']:.1f}, {100 * part['high']:.1f}]"


def models_table(reports: list[dict[str, Any]]) -> str:
    """Greedy accuracy with its interval for every seed, then sampled accuracy, format and length of the seeds."""
    seeds = [str(r["seed"]) for r in reports]
    names = list(dict.fromkeys(n for r in reports for n in r["models"]))
    head = ["model", *(f"greedy, seed {s}" for s in seeds), "sampled", "format", "tokens a reply"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names:
        of = [r["models"].get(name, {}) for r in reports]
        sampled = " / ".join(f"{100 * m['sampled']['accuracy']:.1f}" if m.get("sampled") else "–" for m in of)
        form = " / ".join(f"{100 * m['format']:.0f}" if "format" in m else "–" for m in of)
        length = " / ".join(f"{m['response_tokens']:.0f}" if "response_tokens" in m else "–" for m in of)
        cells = [f"`{name}`", *(percent(m.get("greedy")) for m in of), sampled, form, length]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def claims_table(reports: list[dict[str, Any]]) -> str:
    """The verdict on every claim, for each seed, with the paired difference."""
    claims = [{c["id"]: c for c in r.get("claims") or []} for r in reports]
    if not any(claims):
        return ""
    head = ["claim", "compared", *(f"seed {r['seed']}" for r in reports)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for key, first in claims[0].items():
        compared = f"`{first['higher']['model']}` over `{first['lower']['model']}`, {first['metric']}"
        cells = [_verdict(of.get(key)) for of in claims]
        lines.append(f"| {first['claim']} | {compared} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(claim: dict[str, Any] | None) -> str:
    if claim is None:
        return "–"
    found = claim["difference"]
    if found is None:
        return claim["verdict"]
    low, value, high = found["low"], found["value"], found["high"]
    if claim["metric"] == "response_tokens":
        return f"{claim['verdict']}: {value:+.1f} [{low:+.1f}, {high:+.1f}] tokens"
    return f"{claim['verdict']}: {100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


if __name__ == "__main__":
    found = [load(run) for run in sys.argv[1:]]
    sys.stdout.write(models_table(found) + "\n\n" + claims_table(found) + "\n")
