"""The report of benchmarks and `compare`, on the files that a benchmark stage leaves."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from openr1.errors import UserError
from openr1.evaluate.reference import beside_reference, reference_model
from openr1.evaluate.samples import samples_table
from openr1.evaluate.scores import Sample, question_hash, score
from openr1.evaluate.settings import BenchmarkSettings
from openr1.evaluate.statistics import Counts
from openr1.manifest import Manifest
from openr1.records import Completion, Verdict
from openr1.report import build_report
from openr1.report.compare import as_csv, compare_runs
from openr1.report.compare_page import page, sentence
from openr1.tasks.definitions import load_benchmark
from openr1.tasks.questions import BenchmarkQuestion

HOSTILE = "<script>alert(1)</script>"


def a_run(
    folder: Path, marks: dict[str, str], model: str = "DeepSeek-R1-Distill-Qwen-7B", budget: int = 32768
) -> Path:
    """A finished evaluation on aime24: for every question its samples as letters, c(orrect), w(rong), t(runcated)."""
    status = {"c": "correct", "w": "wrong", "t": "truncated", "x": "infra_error"}
    settings = BenchmarkSettings(benchmarks=["aime24"], k=4, max_new_tokens=budget)
    samples = []
    for number, (key, letters) in enumerate(marks.items()):
        q = BenchmarkQuestion(key, key, "aime24", f"{HOSTILE} {key}?", "4", "{question}", "math")
        for i, letter in enumerate(letters):
            text = f"<think>{HOSTILE}</think> {letter}{i}"
            cut = "length" if letter == "t" else "stop"
            c = Completion(key, i, text, cut, 9, 40 * (number + 1), i, "503" if letter == "x" else None)  # type: ignore[arg-type]
            samples.append(Sample(q, q.prompt(i), c, Verdict(status[letter], "4", "test", 0.1, "math", "1")))  # type: ignore[arg-type]
    found = score(load_benchmark("aime24"), settings, "aime24", samples)
    sampling = settings.sampling_of("aime24").model_dump()
    counts = [Counts(letters.count("c"), len(letters)) for letters in marks.values() if "x" not in letters]
    found["reference"] = beside_reference("aime24", reference_model(model), counts, sampling, 30)
    found["provenance"] = {
        "prompt_hash": question_hash(settings, [s.question for s in samples]), "verifier": "math/1",
        "engine": "vllm", "dtype": "bfloat16", **sampling, "seed": 0, "questions": f"{len(marks)} of 30",
    }  # fmt: skip
    stage = folder / "evaluate"
    (stage / "samples").mkdir(parents=True)
    pq.write_table(samples_table(samples), stage / "samples" / "aime24.parquet")
    results = {"model": model, "engine_name": "vllm", "benchmarks": {"aime24": found}}
    Manifest("evaluate", "benchmark", status="done", seconds=1.0, total_seconds=1.0, attempt=1, results=results).save(
        stage
    )
    tree = {"recipe": "evaluate", "run": folder.name, "seed": 0, "stages": {"evaluate": {"kind": "benchmark"}}}
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    return folder


def marks_of(*letters: str) -> dict[str, str]:
    return {f"q{i:02d}": given for i, given in enumerate(letters)}


GOOD, POOR = (
    marks_of(*["cccc"] * 12, *["cwcw"] * 12, *["wwwt"] * 6),
    marks_of(*["cccw"] * 8, *["wwcw"] * 16, *["wwwt"] * 6),
)


def test_the_json_holds_what_the_contract_says(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r", GOOD)
    report = build_report(folder)
    assert json.loads((folder / "report.json").read_text())["benchmarks"] == report["benchmarks"]
    assert (report["model"], report["engine"]) == ("DeepSeek-R1-Distill-Qwen-7B", "vllm")
    found = report["benchmarks"]["aime24"]
    wanted = {
        "n", "k", "accuracy", "low", "high", "low_resampling", "high_resampling", "pass_at", "cons", "truncated",
        "no_answer", "tokens", "reference",
    }  # fmt: skip
    assert wanted <= found.keys()
    assert found["accuracy"] == pytest.approx((12 + 6) / 30)
    assert found["reference"]["value"] == 0.555 and found["reference"]["verdict"] == "inconclusive"
    assert pq.read_table(folder / "samples" / "aime24.parquet").num_rows == 120


def test_the_page_shows_every_part_and_runs_nothing(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r", GOOD)
    build_report(folder)
    html = (folder / "report.html").read_text()
    assert "<script" not in html and "&lt;script&gt;" in html and "http-equiv" in html
    for part in (
        "60.0%", "n = 30, k = 4", "math/1", "vllm, bfloat16", "32,768 tokens, T 0.6", "Accuracy by token budget",
        "Length of the replies", "12 always right, 6 never, 12 now and then", "Replies", "inconclusive", "55.5%",
        "README of DeepSeek-R1", "pass@4",
    ):  # fmt: skip
        assert part in html, part
    assert "| aime24 (n = 30, k = 4" in (folder / "report.md").read_text()


def test_warnings_say_what_the_scores_cannot(tmp_path: Path) -> None:
    found = build_report(a_run(tmp_path / "r", marks_of(*["wwtt"] * 28, "xxxx", "cccc"), budget=512))
    told = " / ".join(found["warnings"])
    assert "aime24: 48.3% of the replies were cut at 512 tokens" in told
    assert "aime24: 4 samples could not be had or graded" in told
    none = build_report(a_run(tmp_path / "s", marks_of(*["wwww"] * 30)))
    assert "aime24: unreliable: too few successes" in " / ".join(none["warnings"])


def test_a_comparison_is_paired_and_says_which_is_better(tmp_path: Path) -> None:
    a, b = a_run(tmp_path / "poor", POOR), a_run(tmp_path / "good", GOOD)
    found = compare_runs([a, b])
    one = found["comparisons"][0]
    assert one["difference"] == pytest.approx((12 + 6 - 6 - 4) / 30)
    assert one["better"] == "good" and one["p_holm"] == one["p"] < 0.001
    assert one["low"] > 0 and one["differs"] == []
    assert sentence(one).startswith("aime24: good is better than poor: +26.7 points (")
    assert compare_runs([b, a])["comparisons"][0]["difference"] == pytest.approx(-one["difference"])
    html = page(found, [a, b])
    assert "good is better than poor" in html and "<script" not in html and "Where they differ most" in html
    row = next(csv.DictReader(io.StringIO(as_csv(found))))
    assert row["better"] == "good" and float(row["difference"]) == pytest.approx(one["difference"])


def test_a_model_beside_itself_cannot_be_told_apart(tmp_path: Path) -> None:
    a, b, c = (a_run(tmp_path / name, GOOD) for name in "abc")
    found = compare_runs([a, b, c])["comparisons"]
    assert [(x["difference"], x["p_holm"], x["better"]) for x in found] == [(0.0, 1.0, "cannot tell")] * 2


def test_what_else_differs_than_the_model_is_said(tmp_path: Path) -> None:
    a, b = a_run(tmp_path / "a", GOOD), a_run(tmp_path / "b", GOOD, budget=512)
    assert compare_runs([a, b])["comparisons"][0]["differs"] == ["max new tokens: 32768 against 512"]
    assert "More than the model differs" in page(compare_runs([a, b]), [a, b])


def other_questions(folder: Path) -> list[Path]:
    return [a_run(folder / "a", GOOD), a_run(folder / "b", marks_of(*["cccc"] * 12))]


def unfinished(folder: Path) -> list[Path]:
    a, b = a_run(folder / "a", GOOD), a_run(folder / "b", GOOD)
    (b / "evaluate" / "manifest.json").unlink()
    return [a, b]


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (other_questions, "^aime24: a and b were asked different questions .12 shared of 30 and 12.; evaluate both"),
        (unfinished, "^b: no finished evaluation in this run; make one with openr1 evaluate"),
        (lambda folder: [a_run(folder / "a", GOOD)], "^compare: one run is nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_one_line(made: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line) as caught:
        compare_runs(made(tmp_path))
    assert len(caught.value.problems) == 1
