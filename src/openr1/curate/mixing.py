"""Steps that need no text: the band of pass rates, mixing by source, the split by prompt."""

from __future__ import annotations

import math

import numpy as np

from openr1.curate.base import LedgerStep
from openr1.curate.hashing import id_hashes, mixed
from openr1.curate.ledger import Ledger
from openr1.curate.rows import Drop
from openr1.curate.settings import MixStep, PassRateStep, SplitStep
from openr1.errors import UserError, did_you_mean


class PassRate(LedgerStep[PassRateStep]):
    rl_only = True

    def __call__(self, ledger: Ledger) -> list[tuple[np.ndarray, Drop]]:
        low, high = self.settings.low, self.settings.high
        numbers = ledger.rl_left()
        rates = ledger.pass_rate[numbers]
        none = np.isnan(rates)
        outside = ~none & ((rates < low) | (rates > high))
        return [
            (numbers[none], Drop("no graded sample")),
            (numbers[outside], Drop(f"pass rate outside {low:g}–{high:g}")),
        ]


class Mix(LedgerStep[MixStep]):
    """As many rows of source s as floor(total × share of s), the total so large that no source falls short."""

    def __call__(self, ledger: Ledger) -> list[tuple[np.ndarray, Drop]]:
        s = self.settings
        codes, names = ledger.sources[s.source]
        numbers = ledger.left() if s.of == "completion" else ledger.prompts_left()
        prompts = ledger.prompt[numbers] if s.of == "completion" else numbers
        rows = {name: numbers[codes[prompts] == names.index(name)] for name in names}
        self._check(names, rows)
        out = []
        if s.others == "drop":
            out = [(r, Drop(f"of a source without a weight: {n}")) for n, r in rows.items() if n not in s.weights]
        total = self._total(rows)
        for name, weight in s.weights.items():
            keep = math.floor(total * weight / sum(s.weights.values()) + 1e-9)
            order = np.argsort(self._draws(ledger, rows[name]), kind="stable")
            out.append((rows[name][order[keep:]], Drop(f"over the share of {name}")))
        return out

    def _check(self, names: list[str], rows: dict[str, np.ndarray]) -> None:
        unknown = [n for n in self.settings.weights if n not in names]
        if unknown:
            raise UserError(
                *(f"step mix: no prompt has {self.settings.source} {n!r}; {did_you_mean(n, names)}" for n in unknown)
            )
        empty = [n for n in self.settings.weights if not len(rows[n])]
        if empty:
            what = ", ".join(empty)
            raise UserError(f"step mix: nothing of {what} is left; take out its weight, or look at the steps before")

    def _total(self, rows: dict[str, np.ndarray]) -> float:
        whole = sum(self.settings.weights.values())
        most = min(len(rows[name]) * whole / weight for name, weight in self.settings.weights.items())
        return most if self.settings.size is None else min(most, self.settings.size)

    def _draws(self, ledger: Ledger, numbers: np.ndarray) -> np.ndarray:
        """A number for every row that depends on the seed and its key alone."""
        if self.settings.of == "prompt":
            return id_hashes(ledger.ids[numbers], f"{self.seed}:mix")
        by_prompt = id_hashes(ledger.ids[ledger.prompt[numbers]], f"{self.seed}:mix")
        return mixed(by_prompt + ledger.sample[numbers].astype(np.uint64))


class Split(LedgerStep[SplitStep]):
    """Drops nothing: writes into the ledger to which part each prompt belongs."""

    def __call__(self, ledger: Ledger) -> list[tuple[np.ndarray, Drop]]:
        draws = id_hashes(ledger.ids, f"{self.seed}:split") / 2.0**64
        edge = 0.0
        for number, share in enumerate(self.settings.parts.values(), start=1):
            ledger.part[(draws >= edge) & (draws < edge + share)] = number
            edge += share
        return []
