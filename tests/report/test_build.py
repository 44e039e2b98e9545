"""build_report through its public door: the JSON, the two documents, and runs that are not whole."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from openr1.errors import UserError
from openr1.manifest import load_manifest
from openr1.metrics import MetricLog
from openr1.report import build_report, terminal

from .conftest import HOSTILE, RECIPE, manifest

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what a browser would see: tags, attributes, ids, text; and whether the tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [a["id"] or "" for _, a in self.tags if "id" in a]


def text_of(report: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal(report))
    return console.export_text()


def test_json_has_the_models_of_the_contract(run: Path) -> None:
    report = build_report(run)
    assert json.loads((run / "report.json").read_text()) == report
    assert report["run"] == "made-up" and report["recipe"] == "tiny" and report["complete"] is True
    assert list(report["models"]) == ["start", "grpo"]
    grpo = report["models"]["grpo"]
    assert grpo["greedy"]["accuracy"] == 0.64 and grpo["greedy"]["n"] == 200
    assert {"accuracy", "low", "high", "n", "k"} <= set(grpo["sampled"])
    assert grpo["format"] == 0.97 and grpo["response_tokens"] == 31.5


def test_gpu_hours_are_shown_where_there_are_some_and_priced_where_the_site_has_a_price(run: Path) -> None:
    assert build_report(run)["usd"] is None and "GPU-hours" not in (run / "report.md").read_text()
    made = load_manifest(run / "grpo")
    assert made is not None
    made.gpu_hours = 12.5
    made.save(run / "grpo")
    config = yaml.safe_load((run / "run.yaml").read_text())
    (run / "run.yaml").write_text(yaml.safe_dump(config | {"cluster": {"price_per_gpu_hour": 3.0}}))
    report = build_report(run)
    assert (report["gpu_hours"], report["usd"]) == (12.5, 37.5)
    assert "12.5 in all; 37.50 USD at 3 USD a GPU-hour." in (run / "report.md").read_text()


def test_cost_is_that_of_the_making_stage_and_totals_follow_the_lineage(run: Path) -> None:
    grpo = build_report(run)["models"]["grpo"]
    assert (grpo["made_by"], grpo["tokens"], grpo["seconds"], grpo["flops"]) == ("grpo", 510_000, 170.0, 1.7e12)
    assert grpo["total_tokens"] == 510_000 + 420_000
    assert grpo["total_seconds"] == pytest.approx(170 + 40 + 1.4 + 0.6)
    assert grpo["total_flops"] == pytest.approx(3.7e12)
    assert grpo["evaluation"]["tokens"] == 31000


def test_a_model_from_outside_has_no_cost(run: Path) -> None:
    config = yaml.safe_load((run / "run.yaml").read_text())
    config["stages"]["evaluate_before"]["inputs"].pop("model")
    (run / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    start = build_report(run)["models"]["start"]
    assert start["made_by"] is None and start["tokens"] is None and start["total_flops"] is None
    assert "made outside this run" in (run / "report.md").read_text()


def test_the_page_is_whole_self_contained_and_has_unique_ids(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert not [t for t, _ in page.tags if t in ("script", "link", "img", "iframe", "object", "embed", "image")]
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                assert (value or "").startswith("#")
    assert "@import" not in text and "url(http" not in text
    referenced = {v[1:] for _, a in page.tags for k, v in a.items() if k in ("href", "xlink:href") and v}
    assert referenced <= set(page.ids)


def test_charts_are_named_and_take_the_colours_of_the_page(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    page = Page(text)
    charts = [a for t, a in page.tags if t == "svg" and "aria-hidden" not in a]  # keys of a legend are decoration
    assert len(charts) >= 12
    assert all(a["role"] == "img" and set((a["aria-labelledby"] or "").split()) <= set(page.ids) for a in charts)
    assert "var(--series-1)" in text and "#0a0001" not in text and "#010203" not in text
    assert "prefers-color-scheme:dark" in text


def test_grpo_stages_are_drawn_together_and_each_for_itself(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    assert "GRPO stages together" in page.text
    assert any(t.startswith("grpo: ") and "grpo_control: " in t for t in page.text)


def test_a_reward_that_stays_at_zero_is_drawn(run: Path) -> None:
    log = MetricLog(run / "grpo" / "metrics.jsonl")
    for step in (1, 2, 3):
        log.log(step, {"reward": 0.0, "kl": 0.0})
    build_report(run)
    text = (run / "report.html").read_text()
    assert "Reward and its parts" in text and "KL to the reference" not in text


def test_completions_are_escaped_and_shown_as_they_are(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    shown = HOSTILE.replace("\x1b", "\u241b")
    assert shown in page.text
    assert "<script>alert" not in (finished / "report.html").read_text()


def test_long_completions_are_folded(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    assert any(t.startswith("All 1,9") and t.endswith("characters") for t in page.text)


def test_markdown_tables_have_equal_columns(finished: Path) -> None:
    width = 0
    for line in (finished / "report.md").read_text().splitlines():
        if not line.startswith("| ") and not line.startswith("|-") and not line.startswith("| -"):
            width = 0
            continue
        cells = line.replace("\\|", "").count("|")
        assert width in (0, cells), line
        width = cells


def test_every_accuracy_comes_with_what_it_rests_on(finished: Path) -> None:
    for name in ("report.md", "report.html"):
        text = (finished / name).read_text()
        for fact in ("64.0%", "57.3 to 70.7", "200", "ab12cd34ef56", "math 3"):
            assert fact in text, (name, fact)


def test_changes_between_models_are_counted_over_the_shared_prompts(run: Path) -> None:
    (change,) = build_report(run)["comparisons"]
    assert (change["before"], change["after"], change["n"]) == ("start", "grpo", 200)
    assert sum(change[k] for k in ("newly_right", "newly_wrong", "still_right", "still_wrong")) == 200
    assert change["newly_right"] > change["newly_wrong"]


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    build_report(run)
    first = {p.name: p.read_bytes() for p in run.glob("report.*")}
    assert set(first) == {"report.md", "report.html", "report.json"}
    build_report(run)
    assert first == {p.name: p.read_bytes() for p in run.glob("report.*")}


def test_an_unfinished_failed_or_missing_stage_is_named(run: Path) -> None:
    (run / "evaluate_after" / "manifest.json").unlink()
    manifest("grpo", "grpo", status="failed", exit={"code": 3, "reason": "disk full"}).save(run / "grpo")
    manifest("sft", "sft", status="running").save(run / "sft")
    report = build_report(run)
    assert report["complete"] is False
    assert list(report["models"]) == ["start"]
    text = "\n".join(report["warnings"])
    assert (
        "grpo failed (disk full)" in text
        and "1 stage of the recipe has not run: evaluate_after" in text
        and "sft has begun" in text
    )
    assert {s["stage"]: s["status"] for s in report["stages"]}["grpo"] == "failed"
    assert "grpo failed" in text_of(report)


def test_a_run_that_has_only_its_plan_still_gets_a_report(tmp_path: Path) -> None:
    plan = {"recipe": "tiny", "run": "r", "seed": 1, "stages": RECIPE}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    report = build_report(tmp_path)
    assert report["models"] == {} and ", ".join(RECIPE) in report["warnings"][0]
    assert (tmp_path / "report.html").exists()


def test_a_broken_manifest_is_named_and_the_rest_reported(run: Path) -> None:
    (run / "data" / "manifest.json").write_text("{")
    report = build_report(run)
    assert any("data/manifest.json" in w for w in report["warnings"])
    assert "grpo" in report["models"]


def test_numbers_that_json_cannot_hold_become_null(run: Path) -> None:
    m = load_manifest(run / "evaluate_after")
    assert m is not None
    m.results["greedy"]["low"] = float("nan")
    m.save(run / "evaluate_after")
    build_report(run)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads((run / "report.json").read_text(), parse_constant=refuse)
    assert found["models"]["grpo"]["greedy"]["low"] is None


def test_incomparable_measurements_are_warned_of(run: Path) -> None:
    m = load_manifest(run / "evaluate_after")
    assert m is not None
    m.results |= {"prompt_hash": "other", "truncated": 0.4, "greedy": m.results["greedy"] | {"n": 30}}
    m.save(run / "evaluate_after")
    text = "\n".join(build_report(run)["warnings"])
    assert "different questions" in text and "40.0% of grpo" in text and "30 questions only" in text


def test_truncation_is_shown_and_warned_of_for_both_modes_where_they_differ(run: Path) -> None:
    m = load_manifest(run / "evaluate_after")
    assert m is not None
    m.results["greedy"] |= {"truncated": 0.01}
    m.results["sampled"] |= {"truncated": 0.25}
    m.save(run / "evaluate_after")
    warnings = [w for w in build_report(run)["warnings"] if "token limit" in w]
    assert warnings == ["25.0% of grpo's sampled completions were cut at the token limit"]
    rows = [line for line in (run / "report.md").read_text().splitlines() if line.startswith("| ")]
    assert any("1.0% / 25.0%" in row and row.startswith("| grpo ") for row in rows)
    assert any(row.startswith("| start ") and " 1.0% " in row and "/" not in row for row in rows)


def test_samples_that_are_damaged_or_of_another_shape_do_not_stop_the_report(run: Path) -> None:
    (run / "evaluate_after" / "samples" / "part-00000.parquet").write_bytes(b"PAR1 half")
    assert build_report(run)["comparisons"] == []
    table = pa.table({"prompt_id": ["0000"], "sample_index": [0], "completion": ["x"], "status": ["correct"]})
    pq.write_table(table, run / "evaluate_after" / "samples" / "part-00000.parquet")
    (change,) = build_report(run)["comparisons"]
    assert change["n"] == 1


def test_no_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run\.yaml"):
        build_report(tmp_path)
    (tmp_path / "run.yaml").write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        build_report(tmp_path)


def test_terminal_fits_80_columns_and_names_everything(run: Path) -> None:
    text = text_of(build_report(run), 80)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("start", "grpo", "64.0%", "57.3–70.7", "evaluate_after", "report.html"):
        assert word in text.replace("\n", "")


def test_building_a_report_loads_no_torch(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from openr1.report import build_report;"
        f"build_report(Path({str(run)!r})); assert not {{'torch','transformers','trl','datasets'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
