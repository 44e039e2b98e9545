"""The worker pool: order, threads, asyncio, scripts without a main guard, death of the parent, recovery."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import runs

import openr1.verify.pool as pool_module
from openr1.errors import UserError
from openr1.verify import clear_cache, close_pool, grade
from openr1.verify.api import grade_async
from openr1.verify.pool import current_pool

SLOW = r"|x|"  # a gold that only a worker can decide


def slow_pairs(n: int, offset: int = 0) -> tuple[list[str], list[str], list[bool]]:
    right = [i % 3 != 0 for i in range(n)]
    roots = [r"\sqrt{x^2}" if ok else "x" for ok in right]
    texts = [
        rf"\boxed{{{root} + {i + offset} - {i + offset} + y^{{{i}}} - y^{{{i}}}}}" for i, root in enumerate(roots)
    ]
    return [SLOW] * n, texts, right


def run_script(code: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=60, check=False)


def test_results_come_in_order_from_several_workers() -> None:
    clear_cache()
    golds, texts, right = slow_pairs(30)
    assert [v.status == "correct" for v in grade(golds, texts, workers=2)] == right


def test_equal_answers_are_asked_once_and_then_cached() -> None:
    clear_cache()
    text = r"\boxed{\sqrt{x^2}}"
    first = grade([SLOW] * 4, [text] * 4)
    assert {v.status for v in first} == {"correct"}
    took = []
    for _ in range(10):  # the machine may be busy with something else
        start = time.perf_counter()
        assert {v.status for v in grade([SLOW] * 4, [text] * 4)} == {"correct"}
        took.append(time.perf_counter() - start)
    assert min(took) < 0.02


def test_threads_share_the_pool() -> None:
    clear_cache()
    with ThreadPoolExecutor(4) as threads:
        batches = [slow_pairs(8, offset) for offset in (100, 200, 300, 400)]
        results = list(threads.map(lambda batch: grade(batch[0], batch[1]), batches))
    for (_, _, right), verdicts in zip(batches, results, strict=True):
        assert [v.status == "correct" for v in verdicts] == right


def test_async_grading_does_not_block_the_loop() -> None:
    clear_cache()

    async def main() -> tuple[list[str], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticker = asyncio.create_task(tick())
        golds, texts, right = slow_pairs(12, 900)
        verdicts = await grade_async(golds, texts)
        ticker.cancel()
        return [v.status for v in verdicts], ticks

    statuses, ticks = asyncio.run(main())
    assert statuses.count("correct") == 8 and ticks > 0


def test_a_deadline_masks_what_is_not_done() -> None:
    clear_cache()
    close_pool()  # a cold worker needs longer than this deadline
    golds, texts = [SLOW] * 6, [rf"\boxed{{\sqrt{{x^2}}+{i}-{i}+y^{i}-y^{i}}}" for i in range(6)]
    start = time.perf_counter()
    verdicts = grade([*golds, "1"], [*texts, r"\boxed{1}"], deadline=0.05)
    assert time.perf_counter() - start < 5
    assert {v.status for v in verdicts[:6]} == {"infra_error"} and verdicts[6].status == "correct"
    assert all(v.score is None for v in verdicts[:6])


def test_a_killed_worker_is_replaced() -> None:
    clear_cache()
    grade([SLOW], [r"\boxed{\sqrt{x^2}}"])
    pool = current_pool()
    assert pool is not None
    for pid in pool.worker_pids():
        os.killpg(pid, signal.SIGKILL)
    golds, texts, right = slow_pairs(4, 7000)
    assert [v.status == "correct" for v in grade(golds, texts)] == right


def test_closing_ends_the_workers_and_the_next_batch_starts_anew() -> None:
    clear_cache()
    grade([SLOW], [r"\boxed{\sqrt{x^2}}"])
    pool = current_pool()
    assert pool is not None
    pids = pool.worker_pids()
    close_pool()
    assert pids and not any(runs(pid) for pid in pids)
    clear_cache()
    assert grade([SLOW], [r"\boxed{\sqrt{x^2}}"])[0].status == "correct"


CHEAP = r"""
from openr1.verify import grade, Verdict
from openr1.verify.pool import current_pool
v = grade(gold=["1/2", "x+1", "Paris"], completion=[r"\boxed{0.5}", r"\boxed{1+x}", "<answer>paris</answer>"])
assert all(isinstance(x, Verdict) and x.status == "correct" for x in v), v
assert current_pool() is None, "a cheap batch started the pool"
print("ok")
"""
TOP_LEVEL = r"""
from openr1.verify import grade
print([v.status for v in grade(gold=[r"|x|"], completion=[r"\boxed{\sqrt{x^2}}"])])
"""


def test_a_cheap_batch_starts_no_worker() -> None:
    done = run_script(CHEAP)
    assert done.stdout.strip() == "ok", done.stderr


def test_top_level_script_from_stdin_and_from_a_file_needs_no_main_guard(tmp_path: Path) -> None:
    done = run_script(TOP_LEVEL)
    assert done.stdout.strip() == "['correct']", done.stderr
    script = tmp_path / "sympy.py"  # a name that would shadow the engine if the folder were on the worker's path
    script.write_text(TOP_LEVEL)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.strip() == "['correct']", done.stderr


def test_interactive_session_works() -> None:
    code = TOP_LEVEL.strip() + "\nexit()\n"
    done = subprocess.run([sys.executable, "-i", "-q"], input=code, capture_output=True, text=True, timeout=60)
    assert "['correct']" in done.stdout, done.stderr


@pytest.mark.parametrize("busy", [False, True])
def test_workers_die_with_a_parent_that_is_killed(busy: bool) -> None:
    code = rf"""
import os, sys, threading, time
from openr1.verify import grade
from openr1.verify.pool import current_pool
grade([r"|x|"], [r"\boxed{{\sqrt{{x^2}}}}"])
if {busy}:
    hang = r"\boxed{{\binom{{10^6}}{{5\cdot10^5}}}}"
    threading.Thread(target=grade, args=(["42"], [hang]), daemon=True).start()
print(*current_pool().worker_pids(), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert pids
    process.kill()
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 6
    while any(runs(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(runs(pid) for pid in pids)


def test_a_forked_child_grades_with_workers_of_its_own() -> None:
    clear_cache()
    grade([SLOW], [r"\boxed{\sqrt{x^2}}"])
    parent_pool = current_pool()
    code = r"""
import os, sys
from openr1.verify import grade, clear_cache
grade([r"|x|"], [r"\boxed{\sqrt{x^2}}"])
pid = os.fork()
if pid == 0:
    clear_cache()
    ok = grade([r"|x|"], [r"\boxed{\sqrt{x\cdot x}}"])[0].status == "correct"
    os._exit(0 if ok else 7)
status = os.waitpid(pid, 0)[1]
clear_cache()
print(os.waitstatus_to_exitcode(status), grade([r"|x|"], [r"\boxed{\sqrt{x^2}}"])[0].status)
"""
    done = run_script(code)
    assert done.stdout.strip() == "0 correct", done.stderr
    assert current_pool() is parent_pool


def test_import_is_light() -> None:
    heavy = ("torch", "sympy", "pyarrow", "numpy")
    code = f"import sys; import openr1.verify; print([m for m in {heavy} if m in sys.modules])"
    assert run_script(code).stdout.strip() == "[]"
    best = min(_import_seconds() for _ in range(3))
    assert best < 0.3


def _import_seconds() -> float:
    code = "import time; t = time.process_time(); import openr1.verify; print(time.process_time() - t)"
    return float(run_script(code).stdout)


def test_a_verifier_that_breaks_masks_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_cache()
    from openr1.verify.mathematics import MathVerifier

    honest = MathVerifier.decide

    def breaks(self: MathVerifier, answer: str, gold: list[str], info: dict) -> object:
        if answer == "13":
            raise KeyError("a bug")
        return honest(self, answer, gold, info)

    monkeypatch.setattr(MathVerifier, "decide", breaks)
    verdicts = grade(["13", "14"], [r"\boxed{13}", r"\boxed{14}"])
    assert [v.status for v in verdicts] == ["infra_error", "correct"] and verdicts[0].score is None


def test_wrong_calls_say_what_to_do() -> None:
    with pytest.raises(UserError, match="did you mean math"):
        grade(["1"], ["1"], "maths")
    with pytest.raises(UserError, match="2 gold answers for 1 completions"):
        grade(["1", "2"], ["1"])
    with pytest.raises(UserError, match="give a list"):
        grade("1", "1")  # type: ignore[arg-type]
    assert grade([], []) == []
    odd = grade(["1"] * 3, [None, b"1", 7])  # type: ignore[list-item]
    assert [v.status for v in odd] == ["no_answer", "error", "error"]


def test_worker_limits_are_what_the_docs_say() -> None:
    assert pool_module.CPU_SECONDS <= 2 and pool_module.MEMORY_BYTES <= 1 << 30
