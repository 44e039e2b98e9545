"""Why a completion that is missing is not asked for: enough right answers to its prompt, or a spent token budget.

`Limits` is a live container of keys: an engine asks it right before it starts a request. What is in flight still ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from openr1.records import Completion, Prompt

Key = tuple[str, int]
EARLY_STOP, TOKEN_BUDGET = "enough correct", "token budget"


class Limits:
    """Keys that are given up, because `correct` completions of the prompt are, or `budget` tokens were generated.

    Completions are graded with their prompt's own verifier as they come: at once with `in_order`, so that what is
    asked next follows from what was answered; else in a thread of its own, so that no request waits for a grade. `k`
    is how many completions a prompt was to have.
    """

    def __init__(
        self, prompts: Mapping[str, Prompt], k: int, correct: int | None, budget: int | None, in_order: bool
    ) -> None:
        self.prompts, self.k, self.correct, self.budget, self.in_order = prompts, k, correct, budget, in_order
        self.spent = 0
        self._right: Counter[str] = Counter()
        self._have: Counter[str] = Counter()
        self._grader = ThreadPoolExecutor(1, "early-stop") if correct is not None and not in_order else None
        self._pending: list[Future[None]] = []

    def __contains__(self, key: object) -> bool:
        return self.reason(key) is not None  # type: ignore[arg-type]

    def reason(self, key: Key) -> str | None:
        """Why `key` would not be asked for now; None: it would be."""
        if self.correct is not None and self._right[key[0]] >= self.correct:
            return EARLY_STOP
        return TOKEN_BUDGET if self.budget is not None and self.spent >= self.budget else None

    @property
    def stopped(self) -> int:
        """How many completions are not asked for because their prompt has enough right ones."""
        if self.correct is None:
            return 0
        enough = [p for p, n in list(self._right.items()) if n >= self.correct]
        return sum(self.k - self._have[p] for p in enough)

    def add(self, rows: Sequence[Completion]) -> None:
        """Take completions into account; raises what grading earlier ones raised."""
        self.spent += sum(c.completion_tokens for c in rows)
        if self.correct is None:
            return
        self._have.update(c.prompt_id for c in rows)
        if self._grader is None:
            self._grade(rows)
            return
        ended = [f for f in self._pending if f.done()]
        self._pending = [f for f in self._pending if not f.done()]
        self._pending.append(self._grader.submit(self._grade, rows))
        for future in ended:
            future.result()

    def settle(self) -> None:
        """Wait until everything added is graded."""
        for future in self._pending:
            future.result()
        self._pending = []

    def close(self) -> None:
        if self._grader is not None:
            self._grader.shutdown(wait=False, cancel_futures=True)

    def _grade(self, rows: Iterable[Completion]) -> None:
        from openr1.verify import grade_completions

        asked = [c for c in rows if c.prompt_id in self.prompts]
        verdicts = grade_completions([self.prompts[c.prompt_id] for c in asked], asked)
        for completion, verdict in zip(asked, verdicts, strict=True):
            if verdict.status == "correct":
                self._right[completion.prompt_id] += 1
