"""What a verifier is, and the registry of verifiers by name or import path.

A verifier answers in two steps. `decide` is cheap and runs in the caller's process; it returns None where it is not
certain. `decide_slow` may think for a second and runs in a worker process with a memory limit and a hard kill.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openr1.errors import UserError, did_you_mean
from openr1.records import Status, Verdict
from openr1.verify.extract import find_in_answer, split_reasoning

logger = logging.getLogger("openr1")

Info = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict before it is dressed: status, what decided it, and a note for a person."""

    status: Status
    decided_by: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a completion answers: the text, or the status that says why there is none."""

    text: str | None
    status: Status = "no_answer"
    detail: str | None = None


def golds_of(gold: Any) -> list[str]:
    """Gold answers as a list of texts; finite numbers are written out, all else that is no text is left out."""
    if isinstance(gold, str):
        return [gold] if gold.strip() else []
    if hasattr(gold, "tolist"):  # NumPy
        gold = gold.tolist()
    texts = []
    for item in gold if isinstance(gold, (list, tuple)) else [gold]:
        if isinstance(item, bool) or item is None:
            continue
        if isinstance(item, (numbers.Real, Decimal)):  # type: ignore[unreachable]
            item = str(item) if math.isfinite(item) else ""
        if isinstance(item, str) and item.strip():
            texts.append(item)
    return texts


class Verifier:
    """One way to grade a completion against a gold answer. Subclasses override `decide`, and what else they need."""

    name: str = ""
    path: str | None = None
    """Where a worker process imports it from; set by `get_verifier`."""
    version: str = "1"
    needs_gold: bool = True
    needs_info: bool = False
    """Whether it grades by what stands beside the gold (tests of a program): in a file, a column for it."""
    preload: str | None = None
    """A slow import of `decide_slow`, done once by the worker outside any row's time limit."""
    cpu_seconds: float | None = None
    """CPU limit of one `decide_slow`; the pool's own by default."""
    standalone: bool = False
    """True when `verify_batch` does all the work itself (a user's function, a judge, a sandbox)."""
    votes: bool = True
    """Whether texts, or one answer as the other's gold, tell that two answers are the same: not of programs."""

    def extract(self, completion: str, finish_reason: str | None = None) -> Extracted:
        """The final answer of a completion, by the rules of `openr1.verify.extract`.

        A completion cut at its length limit counts as answered only when the end of its answer was seen (a closed box
        or `</answer>`); then it is graded like any other.
        """
        parts = split_reasoning(completion)
        cut = finish_reason == "length"
        if parts.opened and not parts.closed:
            return Extracted(None, "truncated" if cut else "no_answer", "the reasoning is not closed")
        found = find_in_answer(parts.answer)
        if found is None:
            return Extracted(None, "truncated" if cut else "no_answer", "no final answer")
        if cut and not found.closed:
            return Extracted(None, "truncated", "the answer may be cut off")
        return Extracted(found.text)

    def prepare(self) -> dict[str, Any]:
        """What can only be told by trying, before anything is loaded: raises OutsideError where grading is impossible
        (a sandbox where nothing isolates). What it returns stands in the manifest; nothing for most.
        """
        return {}

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        """Why this gold cannot grade anything, or None when it can."""
        if not self.needs_gold:
            return None
        return None if golds_of(gold) else "the gold answer is missing or empty"

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision | None:
        """The cheap, certain decision, or None. Never raises for anything that a model can write."""
        raise NotImplementedError

    def decide_slow(self, answer: str, gold: list[str], info: Info) -> Decision:
        """The decision in a worker process; only asked for when `decide` returned None."""
        raise NotImplementedError

    def present(self, answer: str) -> str:
        """A completion that gives this answer and nothing else."""
        return f"<answer>{answer}</answer>"

    def mutate(self, answer: str) -> str:
        """A wrong answer near a right one: another first digit, or other words."""
        for i, character in enumerate(answer):
            if character.isascii() and character.isdigit():
                return answer[:i] + str((int(character) + 1) % 10 or 1) + answer[i + 1 :]
        return f"not {answer}"

    def relevant(self, info: Info) -> Info:
        """The part of `info` that the decision depends on: the key of the cache."""
        return info

    def verify_batch(
        self,
        completions: Sequence[str],
        golds: Sequence[Any],
        infos: Sequence[Info | None],
        finish_reasons: Sequence[str | None],
        *,
        workers: int | None = None,
        deadline: float | None = None,
    ) -> list[Verdict]:
        """Verdicts of a `standalone` verifier, in order; by default one call of `verify` a row."""
        rows = zip(completions, golds, infos, finish_reasons, strict=True)
        return [self.verify(c, g, info=i, finish_reason=f) for c, g, i, f in rows]

    def verify(
        self,
        completion: str,
        gold: str | list[str] | None,
        *,
        info: Info | None = None,
        finish_reason: str | None = None,
    ) -> Verdict:
        """Grade one completion; a batch through `openr1.verify.grade` is faster."""
        if self.standalone:
            return self.verify_batch([completion], [gold], [info], [finish_reason])[0]
        from openr1.verify.api import grade_with

        return grade_with([self], [gold], [completion], [info], [finish_reason])[0]


class FunctionVerifier(Verifier):
    """A user's function `(completion, gold, info) -> bool | float | Verdict` as a verifier, run in this process."""

    needs_gold = False
    standalone = True

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name

    def verify(
        self,
        completion: str,
        gold: str | list[str] | None,
        *,
        info: Info | None = None,
        finish_reason: str | None = None,
    ) -> Verdict:
        try:
            result = self.function(completion, gold, info or {})
        except Exception as e:  # the user's code; law 1: the row is masked, and the log says why
            logger.warning("verifier %s raised %s: %s; the row is masked", self.name, type(e).__name__, e)
            detail = f"{type(e).__name__}: {e}"
            return Verdict("infra_error", verifier=self.name, version=self.version, detail=detail)
        if isinstance(result, Verdict):
            return result
        if isinstance(result, (bool, int, float)):
            status: Status = "correct" if float(result) == 1.0 else "wrong"
            return Verdict(status, decided_by="function", verifier=self.name, version=self.version)
        raise UserError(
            f"verifier {self.name} returned {type(result).__name__}; "
            "it must return a Verdict, a bool or a number (1 is correct)"
        )


_BUILTIN = {
    "math": "openr1.verify.mathematics:MathVerifier",
    "choice": "openr1.verify.choice:ChoiceVerifier",
    "exact": "openr1.verify.exact:ExactVerifier",
    "numeric": "openr1.verify.numeric:NumericVerifier",
    "expression": "openr1.verify.expression:ExpressionVerifier",
    "reasoning_gym": "openr1.verify.reasoning_gym:ReasoningGymVerifier",
    "judge": "openr1.verify.judge:JudgeVerifier",
    "code": "openr1.verify.code.verifier:CodeVerifier",
}
_instances: dict[str, Verifier] = {}


def verifier_names() -> list[str]:
    """The names that `get_verifier` knows."""
    return sorted(_BUILTIN)


def import_path(path: str, what: str) -> Any:
    """The object at `module:name`; UserError when there is none."""
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{what} {path!r} cannot be imported: {error}; write it as module:name") from error
    return found


def get_verifier(name: str) -> Verifier:
    """The verifier of that name or import path (`module:Class` or `module:function`); one instance a process."""
    if name in _instances:
        return _instances[name]
    if name not in _BUILTIN and ":" not in name:
        raise UserError(f"unknown verifier {name!r}: {did_you_mean(name, _BUILTIN)}")
    found = import_path(_BUILTIN.get(name, name), "verifier")
    if inspect.isclass(found) and issubclass(found, Verifier):
        verifier = found()
    elif isinstance(found, Verifier):
        verifier = found
    elif callable(found):
        verifier = FunctionVerifier(found, name)
    else:
        raise UserError(f"verifier {name!r} is a {type(found).__name__}; it must be a Verifier class or a function")
    verifier.name = name  # whatever its class calls itself: by this word verdicts are read and workers find it again
    verifier.path = _BUILTIN.get(name, name)
    _instances[name] = verifier
    return verifier
