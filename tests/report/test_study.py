"""A run of the paper's shape: claims, costs with a teacher, the funnel, probes and curves of several GRPO stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from openr1.manifest import load_manifest
from openr1.metrics import MetricLog
from openr1.report import build_report

from .conftest import evaluate, manifest, output
from .test_build import Page, text_of

MODELS = {"base": 0.14, "r1_zero": 0.62, "r1_zero_control": 0.13, "student_base": 0.25, "distill": 0.6}
CLAIMS = [
    {"id": "zero", "claim": "RL alone lifts the base", "source": "table 2", "higher": "r1_zero", "lower": "base"},
    {"id": "aha", "claim": "Checks grow", "source": "figure 3", "higher": "r1_zero", "lower": "base",
     "metric": "reflection", "note": "Counted by words."},
    {"id": "same", "claim": "Nothing", "source": "nowhere", "higher": "base", "lower": "r1_zero_control",
     "metric": "sampled"},
    {"id": "late", "claim": "Later", "source": "table 4", "higher": "final", "lower": "base"},
]  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {
    "prompts": {"kind": "prompts"},
    "base": {"kind": "sft", "inputs": {"data": "prompts/train"}},
    "r1_zero": {"kind": "grpo", "inputs": {"model": "base/model", "data": "prompts/rl"}},
    "r1_zero_control": {
        "kind": "grpo", "inputs": {"model": "base/model", "data": "prompts/rl"}, "shuffle_rewards": True,
    },
    "generate": {"kind": "generate", "inputs": {"model": "r1_zero/model", "data": "prompts/rl"}},
    "verify": {"kind": "verify", "inputs": {"completions": "generate/store", "data": "prompts/rl"}},
    "curate": {"kind": "curate", "inputs": {"completions": "generate/store", "verdicts": "verify/store"}},
    "student_base": {"kind": "sft", "inputs": {"data": "prompts/train"}},
    "distill": {"kind": "sft", "inputs": {"model": "student_base/model", "data": "curate/sft"}},
} | {f"evaluate_{m}": {"kind": "evaluate", "inputs": {"model": f"{m}/model"}} for m in MODELS}  # fmt: skip
SFT = {"tokens": {"trained": 1000}, "results": {"parameters": 10, "flops": 60_000.0}, "total_seconds": 10.0}
GRPO = {
    "tokens": {"trained": 1000, "generated": 600, "prompt": 400}, "total_seconds": 20.0,
    "results": {"parameters": 10, "flops": 6 * 10 * 1000.0 + 2 * 10 * 1000},
}  # fmt: skip
DROPPED = {"wrong": 900, "no_answer": 100, "not of the strict form": 50, "more than 2 of the prompt": 150,
           "not graded: infra_error": 20, "rl: pass rate outside 0.1–0.9": 30}  # fmt: skip


def probe_rows(step: int, right: int) -> list[dict[str, Any]]:
    return [
        {"step": step, "prompt_id": f"{q:04x}", "question": f"{q}+1", "gold": str(q + 1), "completion": f"at {step}",
         "finish_reason": "stop", "completion_tokens": 5, "status": "correct" if q < right else "wrong",
         "extracted": "1"}
        for q in range(3)
    ]  # fmt: skip


CURATED = {
    "funnel": [
        {"step": "decontaminate", "unit": "prompt", "in": 500, "out": 500, "dropped": {}},
        {"step": "graded", "unit": "completion", "in": 2000, "out": 1980, "dropped": {"not graded: infra_error": 20}},
        {"step": "correct", "unit": "completion", "in": 1980, "out": 980, "dropped": {"wrong": 900, "no_answer": 100}},
        {"step": "repetition", "unit": "completion", "in": 980, "out": 980, "dropped": {}},
        {"step": "select", "unit": "completion", "in": 980, "out": 780, "dropped": {"more than 2 of the prompt": 200}},
        {"step": "pass_rate", "unit": "prompt", "in": 500, "out": 470, "dropped": {"pass rate outside 0.1–0.9": 30}},
    ],
    "pass_rates": {"never": 100, "40–50%": 300, "always": 100},
    "completion_tokens": {
        "kept": {"n": 780, "mean": 31.0, "p5": 9.0, "p25": 20.0, "p50": 30.0, "p75": 40.0, "p95": 50.0, "max": 60.0}
    },
    "steps": {
        "decontaminate": {
            "benchmarks": {
                "champ": {
                    "status": "checked",
                    "problems": 116,
                    "hits": 3,
                    "pairs": [{"row": "Find all x", "problem": "Find every x", "how": "8-grams", "coverage": 0.8}],
                },
                "aime24": {"status": "not checked", "why": "set OPENR1_DATA_DIR"},
            }
        }
    },
}


def dropped_rows() -> list[dict[str, object]]:
    """Three completions without an answer, one prompt that is a benchmark's problem."""
    whole = {"prompt_id": "p", "sample_index": 0, "question": "1+1", "answer": "2", "completion": None, "detail": None}
    bad = {**whole, "step": "correct", "reason": "no_answer"}
    copy = {**whole, "step": "decontaminate", "reason": "contaminated: champ", "detail": "like the problem P7"}
    return [*({**bad, "sample_index": i, "completion": f"reply {i}"} for i in range(3)), copy]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    config = {"recipe": "tiny_r1", "run": "study", "seed": 0, "claims": CLAIMS, "stages": STAGES}
    (folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    model = {"model": output("model", "model")}
    manifest("prompts", "prompts", counts={"in": 9, "out": 9}, total_seconds=1.0).save(folder / "prompts")
    for name in ("base", "student_base", "distill"):
        manifest(name, "sft", outputs=model, **SFT).save(folder / name)
    for name in ("r1_zero", "r1_zero_control"):
        manifest(name, "grpo", outputs=model, **GRPO).save(folder / name)
        (folder / name / "probes").mkdir()
        for step in range(0, 20, 2):
            rows = pa.Table.from_pylist(probe_rows(step, step // 6 if name == "r1_zero" else 0))
            pq.write_table(rows, folder / name / "probes" / f"step-{step:06d}.parquet")
        log = MetricLog(folder / name / "metrics.jsonl")
        for step in (1, 2):
            log.log(step, {"reward": 0.1 * step, "reflection": 0.2, "reward/language_consistency": 0.5})
    manifest("generate", "generate", tokens={"generated": 3000, "prompt": 1000}, total_seconds=5.0,
             counts={"in": 500, "out": 2000}).save(folder / "generate")  # fmt: skip
    manifest("verify", "verify", counts={"in": 2000, "out": 2000}, total_seconds=1.0).save(folder / "verify")
    counts = {"in": 2000, "out": 780, "prompts": 500, "rl": 470, "dropped": DROPPED}
    manifest("curate", "curate", counts=counts, total_seconds=1.0, results=CURATED).save(folder / "curate")
    (folder / "curate" / "dropped").mkdir()
    pq.write_table(pa.Table.from_pylist(dropped_rows()), folder / "curate/dropped/data-00000.parquet")
    for i, (name, rate) in enumerate(MODELS.items()):
        evaluate(folder, f"evaluate_{name}", name, rate, 20, i)
        m = load_manifest(folder / f"evaluate_{name}")
        assert m is not None
        m.results["reflection"] = {"share": 0.25, "n": 200, "words": ["wait"]}
        m.save(folder / f"evaluate_{name}")
    return folder


def test_claims_are_judged_and_shown_everywhere(study: Path) -> None:
    report = build_report(study)
    zero, aha, same, late = report["claims"]
    assert (zero["verdict"], zero["intervals_overlap"], zero["difference"]["n"]) == ("came out", False, 200)
    assert zero["difference"]["low"] < zero["difference"]["value"] < zero["difference"]["high"]
    assert (zero["higher"]["flops"], zero["lower"]["flops"]) == (140_000, 60_000)
    assert aha["metric"] == "reflection" and aha["difference"]["value"] == 0
    assert same["verdict"] == "cannot tell" and same["higher"]["k"] == 4
    assert late["difference"] is None and "final is not measured yet" in late["reason"]
    for name in ("report.md", "report.html"):
        text = (study / name).read_text()
        for fact in ("RL alone lifts the base", "table 2", "came out", "Could have seen", "final is not measured yet",
                     "figure 3. Counted by words"):  # fmt: skip
            assert fact in text, (name, fact)
    shown = text_of(report, 80)
    assert "r1_zero > base" in shown and "cannot tell" in shown and max(map(len, shown.splitlines())) <= 80


def test_what_was_not_asked_for_and_what_failed_is_told_of_generation(study: Path) -> None:
    found = load_manifest(study / "generate")
    assert found is not None
    found.counts |= {"out": 1800, "failed": 7, "not_asked": {"enough correct": 1200}}
    found.save(study / "generate")
    build_report(study)
    (line,) = [x for x in (study / "report.md").read_text().splitlines() if x.startswith("| generate | 500 |")]
    assert "not asked for, enough correct: 1,200, rows of failed requests: 7" in line


def test_a_run_without_claims_has_no_such_section(run: Path) -> None:
    report = build_report(run)
    assert report["claims"] == [] and report["reference_costs"] == [] and report["probes"] == {}
    assert "The paper's claims" not in (run / "report.md").read_text()


def test_the_teachers_training_is_counted_apart(study: Path) -> None:
    models = build_report(study)["models"]
    cost = models["distill"]["cost"]
    assert cost["own"]["flops"] == 60_000 and cost["own"]["trained"] == 1000
    assert cost["teacher"]["stages"] == ["base", "r1_zero"]
    assert cost["teacher"]["flops"] == 60_000 + 80_000
    # the student, its start and the generation of the answers: 2 x 10 parameters x 4000 tokens, from the maker's size
    assert cost["alone"]["flops"] == 60_000 + 60_000 + 2 * 10 * 4000
    assert cost["total"]["flops"] == cost["alone"]["flops"] + cost["teacher"]["flops"]
    assert models["distill"]["total_flops"] == cost["total"]["flops"]
    assert cost["alone"]["seconds"] == 10 + 10 + 5 + 1 + 1 + 1 and cost["total"]["seconds"] == 28 + 30
    zero = models["r1_zero"]["cost"]
    assert zero["teacher"]["stages"] == [] and zero["alone"] == zero["total"]
    assert (zero["own"]["flops_training"], zero["own"]["flops_generation"]) == (60_000, 20_000)
    text = (study / "report.md").read_text()
    assert "Teacher's training" in text and "base, r1_zero" in text


def test_the_papers_costs_stand_beside_with_their_source(study: Path) -> None:
    rows = {r["name"]: r for r in build_report(study)["reference_costs"]}
    zero, data = rows["DeepSeek-R1-Zero"], rows["Making the SFT data"]
    assert zero["gpu_hours"]["value"] == 101_000 and "†" in zero["gpu_hours"]["source"]
    assert zero["usd"]["value"] == 2 * zero["gpu_hours"]["value"]
    assert zero["here"]["stages"] == ["r1_zero"] and data["here"]["stages"] == ["generate", "verify", "curate"]
    assert rows["DeepSeek-R1"]["here"] is None
    counted = [r for r in rows.values() if r["in_total"]]
    assert sum(r["share"]["paper"] for r in counted) == pytest.approx(1)
    assert zero["share"]["here"] == pytest.approx(80_000 / 160_000)
    assert "101k" in (study / "report.md").read_text()


def test_probes_side_by_side_and_through_training(study: Path) -> None:
    report = build_report(study)
    assert report["probes"]["r1_zero"][0] == {"step": 0, "n": 3, "correct": 0}
    assert report["probes"]["r1_zero"][-1] == {"step": 18, "n": 3, "correct": 3}
    page = Page((study / "report.html").read_text())
    assert page.open == []
    assert "r1_zero through training: 6 steps of 10 asked" in page.text
    assert {"step 0", "step 18"} <= set(page.text) and "at 18" in page.text
    (study / "r1_zero/probes/step-000018.parquet").write_bytes(b"PAR1 half")
    assert build_report(study)["probes"]["r1_zero"][-1]["step"] == 16


def test_the_funnel_follows_the_steps_and_leaves_prompts_to_their_own_table(study: Path) -> None:
    build_report(study)
    text = (study / "report.md").read_text()
    for line in (
        "answers of r1_zero · 500 prompts, 4 each",
        "| in | 2,000 | 100.0% | – | – |",
        "| graded | 1,980 | 99.0% | 20 | not graded: infra error: 20 |",
        "| correct | 980 | 49.0% | 1,000 | wrong: 900, no answer: 100 |",
        "| repetition | 980 | 49.0% | – | – |",
        "| select | 780 | 39.0% | 200 | more than 2 of the prompt: 200 |",
        "| pass_rate | 470 | 94.0% | 30 | pass rate outside 0.1–0.9: 30 |",
        "| kept | 780 | 9 | 20 | 30 | 40 | 50 | 60 | 31 |",
        "| champ | 116 | 3 | checked |",
        "| aime24 | – | – | not checked: set OPENR1_DATA_DIR |",
        "| champ | Find all x | Find every x | 8-grams | 80.0% |",
    ):
        assert line in text, line


def test_examples_of_each_reason_are_shown(study: Path) -> None:
    build_report(study)
    text = (study / "report.md").read_text()
    assert "Examples of what was dropped, up to 2 a reason" in text
    assert text.count("`correct`: no answer") == 2 and text.count("`decontaminate`: contaminated: champ") == 1
    assert "reply 0" in text and "reply 2" not in text and "like the problem P7" in text


def test_a_control_has_the_colour_of_its_stage(study: Path) -> None:
    build_report(study)
    page = Page((study / "report.html").read_text())
    keys = [a["style"] for t, a in page.tags if t == "line" and "style" in a]
    assert len(keys) == 2 and keys[0] == keys[1]
    assert any(t.startswith("r1_zero: ") and "r1_zero_control: " in t for t in page.text)
    assert {"Completions that reflect", "Language part of the reward"} <= set(page.text)


def test_reflection_and_language_have_columns_only_where_measured(study: Path, run: Path) -> None:
    build_report(study)
    build_report(run)
    text = (study / "report.md").read_text()
    assert "| Reflects |" in text and "hold one of: wait" in text and "| Language |" not in text
    assert "Reflects" not in (run / "report.md").read_text()
