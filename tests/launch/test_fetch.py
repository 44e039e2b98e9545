"""Names of the Hub are pinned to what they stood for when a run was first submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from openr1.config.recipe import Recipe
from openr1.errors import UserError
from openr1.launch.fetch import PINS, Fetched, save_pins, with_pins
from openr1.launch.words import compose

MODEL, DATA = "a" * 40, "b" * 40
FOUND = [
    Fetched("grpo", "model", "hub:Qwen/Qwen2.5-Math-1.5B@main", None, MODEL, "/cache"),
    Fetched("prompts", "dataset", "open-r1/OpenR1-Math-220k", None, DATA, None),
]


def recipe(*words: str) -> Recipe:
    named = "stages.grpo.model.source=hub:Qwen/Qwen2.5-Math-1.5B@main"
    return compose(["recipe=r1_zero_qwen2_5_math_1_5b", named, *words])[0]


def revisions(made: Recipe) -> tuple[str, str | None, str | None]:
    grpo, prompts = made.stages["grpo"], made.stages["prompts"]
    return grpo.model.source, grpo.model.revision, prompts.task.revision  # type: ignore[attr-defined]


def test_the_same_names_keep_their_commits_and_others_are_looked_up(tmp_path: Path) -> None:
    asked = recipe()
    assert with_pins(asked, tmp_path) == asked
    save_pins(tmp_path, FOUND)
    pinned = with_pins(asked, tmp_path)
    assert revisions(pinned) == ("hub:Qwen/Qwen2.5-Math-1.5B", MODEL, DATA)
    save_pins(tmp_path, [Fetched("grpo", "model", "hub:Qwen/Qwen2.5-Math-1.5B", MODEL, MODEL, "/cache")])
    assert with_pins(asked, tmp_path) == pinned
    other = recipe("stages.grpo.model.source=hub:Qwen/Qwen2.5-Math-1.5B@other")
    assert revisions(with_pins(other, tmp_path))[:2] == ("hub:Qwen/Qwen2.5-Math-1.5B@other", None)


def test_a_file_of_pins_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / PINS).write_text("{")
    with pytest.raises(UserError, match="not readable .* remove it, and names are looked up again"):
        with_pins(recipe(), tmp_path)
