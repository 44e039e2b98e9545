"""Answers to verdicts: one package for rewards, curation and evaluation, so that a score means one thing.

`from openr1.verify import grade, Verdict` is the public door; it needs no `__main__` guard and imports in a tenth of a
second. `docs/grading.md` has the conventions, the extraction rules and how to write a verifier.
"""

from openr1.records import Verdict
from openr1.verify.api import clear_cache, grade, grade_async, grade_completions, prepare
from openr1.verify.base import Verifier, get_verifier, verifier_names
from openr1.verify.pool import close_pool

__all__ = [
    "Verdict",
    "Verifier",
    "clear_cache",
    "close_pool",
    "get_verifier",
    "grade",
    "grade_async",
    "grade_completions",
    "prepare",
    "verifier_names",
]
