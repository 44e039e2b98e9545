"""No answer can hang, crash or swell the grader, nor hold up the honest ones beside it."""

from __future__ import annotations

import time

import pytest
from hostile_answers import HOSTILE

from openr1.verify import clear_cache, grade
from openr1.verify.extract import final_answer, last_boxed, split_reasoning
from openr1.verify.pool import current_pool

LIMIT = 3.0


def test_there_are_enough_of_them() -> None:
    assert len({name for name, _, _ in HOSTILE}) == len(HOSTILE) >= 60


@pytest.fixture(scope="module")
def _warm() -> None:
    grade([r"|x|"], [r"\boxed{\sqrt{x^2}}"])


@pytest.mark.parametrize(("name", "gold", "answer"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_hostile_answer_is_never_correct_and_costs_little(_warm: None, name: str, gold: str, answer: str) -> None:
    took = []
    while len(took) < 3 and min(took, default=LIMIT + 1) > LIMIT:  # again where the machine was busy
        clear_cache()
        start = time.perf_counter()
        boxed, tagged, bare = grade([gold] * 3, [rf"\boxed{{{answer}}}", f"<answer>{answer}</answer>", answer])
        took.append(time.perf_counter() - start)
        assert {boxed.status, tagged.status, bare.status} <= {"wrong", "no_answer", "timeout", "error"}
    assert min(took) <= LIMIT


def test_honest_answers_beside_hostile_ones_are_right() -> None:
    clear_cache()
    golds, texts, expected = [], [], []
    for i, (_, gold, answer) in enumerate(HOSTILE):
        golds += [gold, str(i), r"|x|"]
        texts += [rf"\boxed{{{answer}}}", rf"\boxed{{{i}}}", rf"\boxed{{\sqrt{{x^2}} + {i}-{i}}}"]
        expected += [False, True, True]
    verdicts = grade(golds, texts)
    assert [v.status == "correct" for v in verdicts] == expected
    assert not [v for v in verdicts if v.status == "infra_error"]
    honest = sorted(v.ms for v, right in zip(verdicts, expected, strict=True) if right)
    assert honest[len(honest) // 2] < 50


def test_worker_memory_stays_bounded() -> None:
    pool = current_pool()
    assert pool is not None and pool.started >= 1
    for pid in pool.worker_pids():
        with open(f"/proc/{pid}/status") as handle:
            peak = next(int(line.split()[1]) for line in handle if line.startswith("VmHWM"))
        assert peak < 1 << 20  # kB: 1 GiB


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 60_000,
        r"\boxed" * 60_000,
        "{" * 300_000,
        "<think>" * 50_000,
        "</think>" * 50_000 + "<answer>" * 50_000,
        "<answer>" * 50_000,
        "answer: " * 50_000,
        "answer is " * 50_000,
        "#### 1\n" * 50_000,
        "####" * 80_000,
        "**answer" * 40_000,
        "answer" + " " * 300_000,
        "final answer " * 30_000,
        "\\fbox " * 50_000,
        "\n" * 400_000,
        " " * 400_000 + "x",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_extraction_is_linear(text: str) -> None:
    start = time.process_time()
    final_answer(text)
    last_boxed(text)
    split_reasoning(text)
    assert time.process_time() - start < 1.5
