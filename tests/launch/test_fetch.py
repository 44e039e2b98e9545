"""Names of the Hub are pinned to what they stood for when a run was first submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openr1.config.recipe import Recipe
from openr1.errors import OutsideError, UserError
from openr1.launch.fetch import PINS, Fetched, fetch, save_pins, with_pins
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


def test_the_benchmarks_of_an_evaluation_keep_their_commits(tmp_path: Path) -> None:
    def asked(*words: str) -> Any:
        named = ["recipe=evaluate", "model=smollm2_135m", "benchmark=[ioi24,math_500]", "max_new_tokens=64"]
        return compose([*named, *words])[0]

    found = [Fetched("evaluate", "benchmark", "ioi24", "main", DATA, "/cache")]
    found.append(Fetched("evaluate", "benchmark", "math_500", MODEL, MODEL, "/cache"))
    save_pins(tmp_path, found)
    pinned = with_pins(asked(), tmp_path)
    assert pinned.stages["evaluate"].revisions == {"ioi24": DATA}
    assert pinned.stages["evaluate"].identity() == asked().stages["evaluate"].identity()
    own = asked(f"stages.evaluate.revisions.ioi24={MODEL}")
    assert with_pins(own, tmp_path).stages["evaluate"].revisions == {"ioi24": MODEL}
    with pytest.raises(UserError, match=r"revisions.ioi: no such benchmark here; did you mean ioi24"):
        asked(f"stages.evaluate.revisions.ioi={MODEL}")


def test_what_is_here_of_a_benchmark_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "math_500.jsonl").write_text("{}\n")
    words = [
        "recipe=evaluate",
        "max_new_tokens=64",
        "engine=openai",
        "engine.base_url=[http://127.0.0.1:9/v1]",
        "benchmark=[champ,math_500]",
    ]
    made, found = fetch(compose(words)[0])
    assert [(f.what, f.source, f.commit) for f in found] == [("benchmark", "math_500", None)]
    assert made.stages["evaluate"].revisions == {}
    monkeypatch.delenv("OPENR1_DATA_DIR")
    with pytest.raises(OutsideError, match="evaluate: dataset HuggingFaceH4/MATH-500 at 6e4ed1a.*: the Hub"):
        fetch(compose(words)[0])


def test_a_file_of_pins_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / PINS).write_text("{")
    with pytest.raises(UserError, match="not readable .* remove it, and names are looked up again"):
        with_pins(recipe(), tmp_path)
