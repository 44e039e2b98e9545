"""A verifier as a user writes one: its class has a name of its own, and it decides in a worker."""

from __future__ import annotations

from openr1.verify.base import Decision, Info, Verifier


class Mine(Verifier):
    name = "another"

    def decide(self, answer: str, golds: list[str], info: Info) -> Decision | None:
        return None

    def decide_slow(self, answer: str, golds: list[str], info: Info) -> Decision:
        return Decision("correct" if answer in golds else "wrong", "mine")
