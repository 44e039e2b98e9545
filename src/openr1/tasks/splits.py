"""What a split makes of its task: the task's settings with the split's own, and what is wrong with them."""

from __future__ import annotations

from pydantic import ValidationError

from openr1.errors import UserError, did_you_mean
from openr1.tasks.settings import ROWS_OVERRIDES, BaseTask, RowsTask, SplitSettings


def effective(task: BaseTask, split: SplitSettings, name: str) -> BaseTask:
    """The task's settings inside one split: its overrides applied and validated.

    Raises:
        UserError: an override that the task does not know, or whose value is wrong; one line each.
    """
    if not split.overrides:
        return task
    fields = type(task).model_fields
    unknown = [k for k in split.overrides if k not in fields or k == "name"]
    if unknown:
        known = [f for f in fields if f != "name"]
        raise UserError(
            *(f"splits.{name}.overrides.{k}: no such task setting; {did_you_mean(k, known)}" for k in unknown)
        )
    try:
        return type(task).model_validate(task.model_dump() | split.overrides)
    except ValidationError as e:
        lines = []
        for error in e.errors():
            where = ".".join(["splits", name, "overrides", *map(str, error["loc"])])
            lines.append(f"{where}: {error['msg'].removeprefix('Value error, ')}")
        raise UserError(*lines) from e


def split_problems(task: BaseTask, splits: dict[str, SplitSettings]) -> list[str]:
    """Everything that is wrong with the splits of a task as far as settings can tell, one line each."""
    problems: list[str] = [] if splits else ["splits: none given; name at least one split"]
    rows = isinstance(task, RowsTask)
    for name, split in splits.items():
        where = f"splits.{name}"
        try:
            effective(task, split, name)
        except UserError as e:
            problems += e.problems
        fixed = [k for k in split.overrides if rows and k in type(task).model_fields and k not in ROWS_OVERRIDES]
        problems += [f"{where}.overrides.{k}: belongs to the whole task; use source for other rows" for k in fixed]
        if split.size is None and not rows:
            problems.append(f"{where}.size: {_name(task)} makes its problems; say how many")
        if split.held_out and split.repeats:
            problems.append(f"{where}.repeats: a held-out split never holds a question twice; leave it out")
        if split.source is not None and not rows:
            problems.append(f"{where}.source: {_name(task)} reads no data; leave it out")
        mixtures = sorted(getattr(task, "mixtures", {}))
        if split.mixture is not None and split.mixture not in mixtures:
            hint = did_you_mean(split.mixture, mixtures) if mixtures else f"{_name(task)} has no mixtures"
            problems.append(f"{where}.mixture: no mixture {split.mixture!r}; {hint}")
    return problems


def _name(task: BaseTask) -> str:
    return str(getattr(task, "name", "this task"))
