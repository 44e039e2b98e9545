"""Grading speed: ours against TRL's `accuracy_reward` and against math-verify called as Open-R1 calls it.

The same mix for all, in one run: 60% integers and decimals, 20% fractions and radicals, 15% symbolic answers and
sets, 5% junk; completions of 1,000 to 3,000 characters, 8 a gold, half of them wrong. Each contender runs in a process
of its own, so that caches and imports are its own; core-seconds count its worker processes. The peers are measured on
fewer rows (`--peer-golds`): they keep no cache that more rows would warm. Golds are given to them between dollar
signs, as they want them. `--json FILE` keeps the numbers.

    python benchmarks/grading.py [--golds 800] [--peer-golds 40] [--seed 0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CLASSES = {"numbers": 0.60, "fractions and radicals": 0.20, "symbolic and sets": 0.15, "junk": 0.05}
SAMPLES = 8
PEERS = ("trl", "open_r1")
OURS = ("ours", "ours_cold")
FILLER = (
    "Let us look at the problem again. ", "We set $x = 3$ and see that $2x + 1 = 7$. ", "Wait, that is not right. ",
    "Then \\frac{a}{b} becomes smaller, so the bound holds. ", "So far so good, now the second case.\n",
    "Therefore $y^2 = 16$ and $y = \\pm 4$. ", "Let me double check by substitution. ",
)  # fmt: skip


def _numbers(draw: random.Random) -> tuple[str, list[str], list[str]]:
    if draw.random() < 0.7:
        n = draw.randrange(-999, 100_000)
        return str(n), [str(n), f"{n}.0", f"{n:,}".replace(",", "{,}")], [str(n + draw.randrange(1, 9)), str(-n - 1)]
    n = draw.randrange(1, 9999)
    value = f"{n // 100}.{n % 100:02d}"
    return value, [value, value + "0", rf"\frac{{{n}}}{{100}}"], [f"{n // 100 + 1}.{n % 100:02d}", str(n + 1)]


def _fractions(draw: random.Random) -> tuple[str, list[str], list[str]]:
    p, q = draw.randrange(1, 60), draw.choice([3, 7, 9, 11, 13])
    if draw.random() < 0.5:
        return (
            rf"\frac{{{p}}}{{{q}}}",
            [rf"\dfrac{{{2 * p}}}{{{2 * q}}}", f"{p}/{q}"],
            [rf"\frac{{{q}}}{{{p + q}}}", f"{p + 1}/{q}"],
        )
    n = draw.choice([2, 3, 5, 7])
    right = [rf"{p}\sqrt{{{n}}}", rf"\sqrt{{{p * p * n}}}", rf"\frac{{{p * n}}}{{\sqrt{{{n}}}}}"]
    return rf"{p}\sqrt{{{n}}}", right, [rf"{p + 1}\sqrt{{{n}}}", rf"{n + 8}\sqrt{{{p}}}"]


def _symbolic(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randrange(1, 20), draw.randrange(21, 40)
    kind = draw.randrange(4)
    if kind == 0:
        return (
            f"x^2+{a + b}x+{a * b}",
            [f"(x+{a})(x+{b})", f"{a * b}+{a + b}x+x^2"],
            [f"x^2+{a}x+{b}", f"(x-{a})(x+{b})"],
        )
    if kind == 1:
        return rf"\{{{a},{b}\}}", [rf"\{{{b}, {a}\}}", f"{a}, {b}"], [rf"\{{{a},{b + 1}\}}", str(a)]
    if kind == 2:
        return f"({a},{b})", [f"({a}, {b})", rf"\left({a},{b}\right)"], [f"({b},{a})", f"({a},{b + 1})"]
    return (
        rf"{a}\sin 2x+{b}",
        [rf"{2 * a}\sin x\cos x+{b}", rf"{b}+{a}\sin 2x"],
        [rf"{a}\cos 2x+{b}", rf"{b}\sin 2x+{a}"],
    )


def _junk(draw: random.Random) -> tuple[str, list[str], list[str]]:
    gold = str(draw.randrange(1000))
    return gold, [gold], ["I do not know", r"\text{see above}", r"\frac{1}{", "???", "x" * 50, r"\sum_{k}", "None"]


def make_rows(golds: int, seed: int) -> list[dict[str, str]]:
    """Rows of the fixed mix: class, gold, completion."""
    draw = random.Random(seed)
    makers: dict[str, Callable[[random.Random], tuple[str, list[str], list[str]]]] = {
        "numbers": _numbers, "fractions and radicals": _fractions, "symbolic and sets": _symbolic, "junk": _junk,
    }  # fmt: skip
    rows = []
    for name, share in CLASSES.items():
        for _ in range(max(1, round(golds * share))):
            gold, right, wrong = makers[name](draw)
            for k in range(SAMPLES):
                answer = draw.choice(right if k % 2 else wrong)
                text, length = "", draw.randrange(1000, 3000)
                while len(text) < length:
                    text += draw.choice(FILLER)
                completion = f"<think>\n{text}\n</think>\n\nThe final answer is $\\boxed{{{answer}}}$."
                rows.append({"class": name, "gold": gold, "completion": completion})
    return rows


def _trl(rows: list[dict[str, str]]) -> list[float | None]:
    from trl.rewards import accuracy_reward

    texts = [[{"role": "assistant", "content": row["completion"]}] for row in rows]
    return accuracy_reward(texts, [f"${row['gold']}$" for row in rows])


def _open_r1(rows: list[dict[str, str]]) -> list[float | None]:
    """math-verify with the settings of Open-R1's accuracy reward, gold and answer parsed every time."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    normal = NormalizationConfig(nits=False, malformed_operators=False, basic_latex=True, boxed="all", units=True)
    config = [
        LatexExtractionConfig(normalization_config=normal, boxed_match_priority=0, try_extract_without_anchor=False)
    ]
    rewards: list[float | None] = []
    for row in rows:
        gold = parse(f"${row['gold']}$", extraction_mode="first_match")
        answer = parse(row["completion"], extraction_config=config, extraction_mode="first_match")
        rewards.append(float(verify(gold, answer)) if gold else None)
    return rewards


def _ours(rows: list[dict[str, str]]) -> list[float | None]:
    from openr1.verify import grade

    return [v.score for v in grade([row["gold"] for row in rows], [row["completion"] for row in rows])]


def _ours_cold(rows: list[dict[str, str]]) -> list[float | None]:
    """Caches and the caller's fast path off: every pair goes to a worker, which parses both sides anew."""
    from openr1.verify import api, grade

    api.cache_enabled = api.fast_path_enabled = False
    scores: list[float | None] = []
    for row in rows:  # one call a row, so that equal pairs of a batch are not graded once
        scores += [v.score for v in grade([row["gold"]], [row["completion"]])]
    return scores


CONTENDERS: dict[str, Callable[[list[dict[str, str]]], list[float | None]]] = {
    "trl": _trl, "open_r1": _open_r1, "ours": _ours, "ours_cold": _ours_cold,
}  # fmt: skip


def _cpu() -> float:
    """CPU seconds of this process and of its ended children."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _living_children_cpu() -> float:
    from openr1.verify.pool import current_pool

    pool = current_pool()
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in pool.worker_pids() if pool else []:
        with open(f"/proc/{pid}/task/{pid}/children") as handle:
            pids = [pid, *(int(child) for child in handle.read().split())]
        for each in pids:
            with open(f"/proc/{each}/stat") as handle:
                fields = handle.read().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / ticks
    return total


def measure(name: str, golds: int, seed: int) -> dict[str, Any]:
    """One contender, class by class, in this process. Imports and the workers' start are warmed and not counted."""
    rows = make_rows(golds, seed)
    run = CONTENDERS[name]
    warm = {"class": "", "gold": r"\sin 2x", "completion": r"$\boxed{2\sin x\cos x}$"}
    run([warm])
    result: dict[str, Any] = {}
    for kind in CLASSES:
        part = [row for row in rows if row["class"] == kind]
        cpu, living, wall = _cpu(), _living_children_cpu() if name in OURS else 0.0, time.perf_counter()
        scores = run(part)
        seconds = time.perf_counter() - wall
        spent = _cpu() - cpu + ((_living_children_cpu() - living) if name in OURS else 0.0)
        result[kind] = {
            "pairs": len(part),
            "core_seconds": max(spent, 1e-4),
            "wall": seconds,
            "accuracy": _mean(scores),
        }
    total = {key: sum(result[kind][key] for kind in CLASSES) for key in ("pairs", "core_seconds", "wall")}
    return {**result, "overall": total}


def _mean(scores: list[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else float("nan")


def import_seconds() -> float:
    """Seconds that importing `openr1.verify` takes in a fresh interpreter, the best of five."""
    code = "import time; t = time.perf_counter(); import openr1.verify; print(time.perf_counter() - t)"
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--golds", type=int, default=800, help="golds for ours; 8 completions each")
    parser.add_argument(
        "--peer-golds", type=int, default=40, help="golds for the peers and for ours without fast path"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the numbers to this file")
    parser.add_argument("--only", choices=sorted(CONTENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.golds if args.only == "ours" else args.peer_golds, args.seed)))
        return
    found: dict[str, Any] = {}
    for name in CONTENDERS:
        command = [
            sys.executable,
            __file__,
            "--only",
            name,
            "--golds",
            str(args.golds),
            "--peer-golds",
            str(args.peer_golds),
        ]
        output = subprocess.check_output([*command, "--seed", str(args.seed)], stderr=subprocess.DEVNULL, text=True)
        found[name] = json.loads(output.splitlines()[-1])
    report(found)
    seconds = import_seconds()
    print(f"\nimport openr1.verify: {seconds:.3f} s")
    if args.json:
        with open(args.json, "w") as handle:
            json.dump({"contenders": found, "import_seconds": seconds}, handle, indent=2)


def report(found: dict[str, Any]) -> None:
    """Pairs a core-second by class, and the ratios."""
    kinds = [*CLASSES, "overall"]
    print(f"{'pairs a core-second':24}" + "".join(f"{kind:>24}" for kind in kinds))
    rates = {name: [found[name][k]["pairs"] / found[name][k]["core_seconds"] for k in kinds] for name in found}
    # overall: by the mix, whatever number of rows each contender had
    for name, values in rates.items():
        values[-1] = 1 / sum(share / values[i] for i, share in enumerate(CLASSES.values()))
        print(f"{name:24}" + "".join(f"{value:>24.1f}" for value in values))
    for name in OURS:
        for peer in PEERS:
            ratios = "".join(f"{a / b:>23.1f}×" for a, b in zip(rates[name], rates[peer], strict=True))
            print(f"{name + ' / ' + peer:24}{ratios}")
    print(
        "\nwall seconds: "
        + ", ".join(f"{n} {found[n]['overall']['wall']:.1f} ({found[n]['overall']['pairs']} pairs)" for n in found)
    )
    for name in found:
        print(f"score of {name}: " + ", ".join(f"{kind} {found[name][kind]['accuracy']:.3f}" for kind in CLASSES))


if __name__ == "__main__":
    main()
