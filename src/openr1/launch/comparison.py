"""`openr1 compare`: from the words of the command to what is said: runs beside each other, evaluations in pairs.

Runs are found as the other verbs find them, as `.wandb` files, or on a W&B server. Where both sides kept the answers
to the same questions, the paired comparison of `report.compare` says how sure a difference is; where they did not, a
note says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from openr1.errors import UserError
from openr1.launch.status import find_run
from openr1.manifest import write_atomic
from openr1.report import compare_page, html, runs_page
from openr1.report.compare import as_csv, compare_runs
from openr1.report.differ import differ, labelled, metrics_csv
from openr1.report.numbers import cleaned
from openr1.report.sides import Side, side_of_files, side_of_folder, sides_of_wandb


@dataclass(frozen=True)
class Comparison:
    """What was found; `told` is the JSON of it."""

    told: dict[str, Any]
    sides: list[Side]

    @classmethod
    def of(cls, runs: Sequence[str], source: str = "local", filters: str | None = None) -> Comparison:
        """Raises UserError for runs that are not there or cannot be compared, OutsideError where W&B fails."""
        if filters and source != "wandb":
            raise UserError("compare: --filter goes with --source wandb")
        sides = sides_of_wandb(runs, filters) if source == "wandb" else [_side(word) for word in runs]
        problem: UserError | None = None
        told: dict[str, Any] = {}
        try:
            told = differ(labelled(sides))
        except UserError as e:  # evaluations of other recipes may still share their questions
            problem = e
        folders = [s.folder for s in sides if s.folder is not None]
        compared, notes = _evaluations(folders if len(folders) == len(sides) else [])
        if problem is not None and not compared.get("comparisons"):
            raise problem
        return cls(_joined(told, compared) | {"not_compared": notes}, sides)

    def write(self, page: str | None, table: str | None) -> None:
        """The page and the CSV, if asked for; paired evaluations have a file of their own beside the metrics."""
        for name, option in ((page, "--html"), (table, "--csv")):
            if name and Path(name).is_dir():
                raise UserError(f"{option} {name}: is a folder; name a file")
        if page:
            write_atomic(Path(page), self.page())
        if table:
            path, metrics = Path(table), bool(self.told.get("metrics"))
            if metrics:
                write_atomic(path, metrics_csv(self.told))
            if self.told["comparisons"]:
                write_atomic(path.with_suffix(".evaluations.csv") if metrics else path, as_csv(self.told))

    def terminal(self) -> RenderableType:
        parts: list[RenderableType] = []
        if "metrics" in self.told:
            parts += [runs_page.terminal(self.told)]
        if self.told["comparisons"]:
            parts += [Text(), compare_page.terminal(self.told)]
        parts += [Text.assemble(("! ", "yellow"), note) for note in self.told["not_compared"]]
        return Group(*parts)

    def page(self) -> str:
        told = cleaned(self.told)
        sections = runs_page.sections(told, self.sides) if "metrics" in told else []
        folders = [s.folder for s in self.sides if s.folder is not None]
        if told["comparisons"]:
            sections += compare_page.sections(told, folders)
        first, *others = (s.label for s in self.sides)
        return html.page(f"{first} against {', '.join(others)}", "Runs beside each other", sections)


def _side(word: str) -> Side:
    path = Path(word)
    if path.is_file() and path.suffix == ".wandb":
        return side_of_files(path)
    if path.is_dir() and not (path / "run.yaml").exists() and any(path.rglob("*.wandb")):
        return side_of_files(path)
    return side_of_folder(find_run(word))


def _evaluations(folders: Sequence[Path]) -> tuple[dict[str, Any], list[str]]:
    """The paired comparison, and why there is none."""
    if len(folders) < 2:
        return {}, []
    try:
        return compare_runs(folders), []
    except UserError as e:
        return {}, list(e.problems)


def _joined(told: dict[str, Any], compared: dict[str, Any]) -> dict[str, Any]:
    """Both in one document: `runs` have what either knows of them."""
    known = compared.get("runs") or []
    runs = [dict(r) for r in told.get("runs") or known]
    for run, more in zip(runs, known, strict=False):
        run |= {k: v for k, v in more.items() if k not in run}
    return {**told, "runs": runs, "comparisons": compared.get("comparisons") or []}
