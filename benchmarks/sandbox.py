"""What a test costs: CPU milliseconds of all processes, ours beside a bare interpreter and bwrap for every test.

The same programs and inputs for all, in one run, with 1, 10 and 50 tests a program. `floor` is a warm Python that
forks, compiles and executes, isolating nothing: what no sandbox can go below. A sandbox's start is counted by itself;
it is paid once for 200 programs. C++ is compiled before the clock starts. `--json FILE` keeps the numbers.

    python benchmarks/sandbox.py [--tests 100] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from openr1.sandbox import Sandbox, host, tiers

COUNTS = (1, 10, 50)
PYTHON = """
import sys
from collections import Counter, defaultdict
from heapq import heappush, heappop

def solve(n, edges):
    graph = defaultdict(list)
    for a, b, w in edges:
        graph[a].append((b, w)); graph[b].append((a, w))
    best, queue = {}, [(0, 1)]
    while queue:
        d, v = heappop(queue)
        if v in best:
            continue
        best[v] = d
        for u, w in graph[v]:
            if u not in best:
                heappush(queue, (d + w, u))
    return [best.get(v, -1) for v in range(1, n + 1)]

def main():
    data = list(map(int, sys.stdin.read().split()))
    n, m = data[0], data[1]
    edges = [tuple(data[2 + 3 * i : 5 + 3 * i]) for i in range(m)]
    print(*solve(n, edges))

if __name__ == "__main__":
    main()
"""
CPP = """
#include <cstdio>
#include <vector>
#include <algorithm>
int main() {
    int n, m; if (scanf("%d %d", &n, &m) != 2) return 1;
    std::vector<long long> d(n + 1, 1LL << 60); std::vector<int> a(m), b(m), w(m); d[1] = 0;
    for (int i = 0; i < m; i++) if (scanf("%d %d %d", &a[i], &b[i], &w[i]) != 3) return 1;
    for (int k = 0; k < n; k++) for (int i = 0; i < m; i++) {
        d[b[i]] = std::min(d[b[i]], d[a[i]] + w[i]); d[a[i]] = std::min(d[a[i]], d[b[i]] + w[i]);
    }
    for (int i = 1; i <= n; i++) printf("%lld%c", d[i] >= (1LL << 59) ? -1 : d[i], i == n ? '\\n' : ' ');
}
"""
FLOOR = """
import os, sys, struct, collections, heapq
text = sys.stdin.buffer.read(int(sys.argv[1])).decode()
count = int(sys.argv[2])
data = open(sys.argv[3], 'rb').read()
for _ in range(count):
    inp = os.memfd_create('in'); os.write(inp, data); os.lseek(inp, 0, 0); out = os.memfd_create('out')
    pid = os.fork()
    if pid == 0:
        os.dup2(inp, 0); os.dup2(out, 1)
        exec(compile(text, 'solution.py', 'exec'), {'__name__': '__main__'})
        sys.stdout.flush(); os._exit(0)
    os.waitpid(pid, 0)
    assert os.pread(out, 99, 0); os.close(inp); os.close(out)
"""


def graph(nodes: int = 30) -> bytes:
    """A small weighted graph, the same every time."""
    edges = [(i, i % nodes + 1, 7 * i % 13 + 1) for i in range(1, nodes + 1)]
    edges += [(i, i * i % nodes + 1, 3 * i % 11 + 1) for i in range(1, nodes + 1)]
    return f"{nodes} {len(edges)}\n{''.join(f'{a} {b} {w}' + chr(10) for a, b, w in edges)}".encode()


# ------------------------------------------------------------------------------------------------------ counting CPU
def spent() -> float:
    """CPU seconds of this process and of all children that it has waited for."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def spent_below(pid: int) -> float:
    """CPU seconds of a process that lives, of its waited-for children, and of all that live below it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(spent_below(int(child)) for child in below)


# -------------------------------------------------------------------------------------------------------- contenders
def command_each(command: list[str], data: bytes) -> Callable[[int], float]:
    """CPU seconds of so many tests, each a process of its own, started as users do."""

    def measure(tests: int) -> float:
        began = spent()
        child = os.fork()
        if child == 0:  # what bwrap leaves behind becomes our child's child, and is waited for
            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
            for _ in range(tests):
                subprocess.run(command, input=data, stdout=subprocess.DEVNULL, check=True, env={}, **host.run_as())  # type: ignore[call-overload]
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        return spent() - began

    return measure


def floor(program: str, data_file: str) -> Callable[[int], float]:
    def measure(tests: int) -> float:
        began = spent()
        text = program.encode()
        words = [host.interpreter().path, "-I", "-S", "-c", FLOOR, str(len(text)), str(tests), data_file]
        subprocess.run(words, input=text, check=True)
        both = spent() - began
        began = spent()
        subprocess.run([*words[:6], "0", data_file], input=text, check=True)
        return both - (spent() - began)  # without the start of the warm interpreter

    return measure


def ours(sandbox: Sandbox, program: str, language: str, data: bytes) -> Callable[[int], float]:
    sandbox.run(program, language, [data])  # started, and C++ compiled

    def measure(tests: int) -> float:
        pids = sandbox.worker_pids()
        began = spent() + sum(spent_below(pid) for pid in pids)
        outcomes = sandbox.run(program, language, [data] * tests)
        assert all(outcome.status == "ok" for outcome in outcomes)
        assert pids == sandbox.worker_pids()
        return spent() + sum(spent_below(pid) for pid in pids) - began

    return measure


def start_cost() -> float:
    """CPU seconds of a sandbox's start, after the first probe."""
    began = spent()
    with Sandbox(workers=1, recycle_after=10**9) as sandbox:
        sandbox.run("1", "python", [""])
        return spent() - began + sum(spent_below(pid) for pid in sandbox.worker_pids())


def bwrap_each(python: str, file: str) -> list[str]:
    """bwrap as its manual shows it: the system read-only, namespaces, one program."""
    words = [
        str(host.bubblewrap()),
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/usr",
        "/usr",
        "--proc",
        "/proc",
    ]
    words += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--dev", "/dev", "--tmpfs", "/tmp"]
    return [*words, "--ro-bind", file, "/solution.py", python, "-I", "-S", "/solution.py"]


def measure_all(tests: int, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """CPU milliseconds a test, by contender and tests a program: medians of the rounds, which take turns."""
    data = graph()
    (file := folder / "solution.py").write_text(PYTHON)
    (data_file := folder / "in").write_bytes(data)
    for path in (file, data_file):
        path.chmod(0o644)
    folder.chmod(0o755)
    python = host.interpreter().path
    binary = compiled_outside(folder)
    with Sandbox(workers=1, recycle_after=10**9) as sandbox:
        contenders = {
            "bare python3": command_each([python, str(file)], data),
            "python3 -I -S": command_each([python, "-I", "-S", str(file)], data),
            "floor": floor(PYTHON, str(data_file)),
            "ours": ours(sandbox, PYTHON, "python", data),
        }
        if sandbox.tier == "bubblewrap":
            contenders["bwrap each"] = command_each(bwrap_each(python, str(file)), data)
        if binary is not None:
            contenders |= {"bare C++": command_each([str(binary)], data), "ours C++": ours(sandbox, CPP, "cpp", data)}
        found: dict[str, dict[str, list[float]]] = {name: {str(c): [] for c in COUNTS} for name in contenders}
        for _ in range(rounds):
            for count in COUNTS:
                for name, measure in contenders.items():
                    programs = max(1, tests // count)
                    used = sum(measure(count) for _ in range(programs))
                    found[name][str(count)].append(1000 * used / (programs * count))
    return {name: {count: statistics.median(v) for count, v in by.items()} for name, by in found.items()}


def compiled_outside(folder: Path) -> Path | None:
    """The C++ program as a plain executable; None without a compiler."""
    (folder / "main.cpp").write_text(CPP)
    try:
        subprocess.run(["g++", "-O2", "-o", str(folder / "main"), str(folder / "main.cpp")], check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return folder / "main"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=100, help="tests of each contender and count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tier = tiers.choose(None)
    with tempfile.TemporaryDirectory(prefix="openr1-bench-", dir="/tmp") as folder:
        costs = measure_all(args.tests, args.rounds, Path(folder))
    start = 1000 * statistics.median(start_cost() for _ in range(3))
    bare, bare_cpp = costs["bare python3"], costs.get("bare C++")
    print(f"tier {tier}, Python {host.interpreter().version}; CPU-ms a test, all processes; ratio to bare in brackets")
    print(f"{'':<16}" + "".join(f"{count + ' tests':>18}" for count in bare))
    for name, by in costs.items():
        base = bare_cpp if name.endswith("C++") and bare_cpp else bare
        print(f"{name:<16}" + "".join(f"{ms:>10.2f} ({ms / base[count]:.2f})" for count, ms in by.items()))
    over = {count: costs["ours"][count] / costs["floor"][count] for count in bare}
    print("ours over the floor (fork + compile + exec): " + ", ".join(f"{c}: {x:.2f}" for c, x in over.items()))
    print(f"start of a sandbox: {start:.0f} CPU-ms, once in 200 programs")
    if args.json:
        kept = {"tier": tier, "ms_per_test": costs, "over_floor": over, "start_ms": start}
        args.json.write_text(json.dumps(kept, indent=2))


if __name__ == "__main__":
    sys.exit(main())
