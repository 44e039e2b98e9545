"""Programs whose end is known: what each must print, or how it must fail."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A program, its inputs, and for each input the status and what it must print."""

    program: str
    language: str
    inputs: list[str]
    expected: list[tuple[str, str]]


def _sum(draw: random.Random) -> Known:
    rows = [[draw.randrange(-999, 999) for _ in range(draw.randrange(1, 50))] for _ in range(2)]
    return Known("print(sum(map(int, input().split())))", "python",
                 [" ".join(map(str, row)) for row in rows], [("ok", f"{sum(row)}\n") for row in rows])  # fmt: skip


def _sort(draw: random.Random) -> Known:
    rows = [[draw.randrange(10**6) for _ in range(200)] for _ in range(2)]
    program = "import sys\nprint(*sorted(map(int, sys.stdin.buffer.read().split())), sep='\\n')"
    return Known(program, "python", [" ".join(map(str, row)) for row in rows],
                 [("ok", "\n".join(map(str, sorted(row))) + "\n") for row in rows])  # fmt: skip


def _factorial(draw: random.Random) -> Known:
    n = draw.randrange(1, 400)
    program = "from functools import reduce\nfrom operator import mul\nprint(reduce(mul, range(1, int(input()) + 1)))"
    return Known(program, "python", [str(n)], [("ok", f"{math.factorial(n)}\n")])


def _recursion(draw: random.Random) -> Known:
    n = draw.randrange(10, 5000)
    program = "def f(n): return n and 1 + f(n - 1)\nimport sys\nsys.setrecursionlimit(10**6)\nprint(f(int(input())))"
    return Known(program, "python", [str(n)], [("ok", f"{n}\n")])


def _file(draw: random.Random) -> Known:
    text = "x" * draw.randrange(1, 9999)
    program = "import os, sys\ntext = input()\nprint(len(text), os.getcwd() != '/')"
    return Known(program, "python", [text], [("ok", f"{len(text)} True\n")])


def _thread(draw: random.Random) -> Known:
    n = draw.randrange(1, 99)
    program = (
        "import threading\nout = []\ndef main(): out.append(int(input()) ** 2)\n"
        "threading.stack_size(1 << 26)\nt = threading.Thread(target=main); t.start(); t.join(); print(out[0])"
    )
    return Known(program, "python", [str(n)], [("ok", f"{n * n}\n")])


def _exit(draw: random.Random) -> Known:
    code = draw.randrange(1, 100)
    return Known(f"print('before')\nraise SystemExit({code})", "python", [""], [("error", "before\n")])


def _raise(draw: random.Random) -> Known:
    rows = [str(draw.randrange(9)), "word", str(draw.randrange(9))]
    return Known(
        "print(int(input()))", "python", rows, [("ok", rows[0] + "\n"), ("error", ""), ("ok", rows[2] + "\n")]
    )


def _syntax(draw: random.Random) -> Known:
    return Known(f"print({draw.randrange(99)}", "python", ["", ""], [("compile_error", "")] * 2)


def _large(draw: random.Random) -> Known:
    n = draw.randrange(1000, 20000)
    return Known("n = int(input())\nfor i in range(n): print(i)", "python", [str(n)],
                 [("ok", "".join(f"{i}\n" for i in range(n)))])  # fmt: skip


def _c(draw: random.Random) -> Known:
    a, b = draw.randrange(10**6), draw.randrange(10**6)
    program = '#include <stdio.h>\nint main(){long a,b;if(scanf("%ld %ld",&a,&b)!=2)return 3;printf("%ld\\n",a*b);}'
    return Known(program, "c", [f"{a} {b}", "x"], [("ok", f"{a * b}\n"), ("error", "")])


_KINDS = (_sum, _sort, _factorial, _recursion, _file, _thread, _exit, _raise, _syntax, _large, _c)


def programs(count: int, seed: int = 0) -> list[Known]:
    """So many programs, the same for the same seed."""
    draw = random.Random(seed)
    return [draw.choice(_KINDS)(draw) for _ in range(count)]
