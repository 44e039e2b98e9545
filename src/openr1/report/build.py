"""Build the report of a run and write it beside the run's stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openr1.manifest import write_atomic, write_json
from openr1.report import html, markdown
from openr1.report.benchmarks import evaluation_of, link_samples
from openr1.report.claims import claims_of
from openr1.report.cost import reference_costs
from openr1.report.load import Run, load_run
from openr1.report.numbers import cleaned, duration, plural
from openr1.report.probes import probes_of
from openr1.report.samples import pairs_of
from openr1.report.sections import all_sections
from openr1.report.summary import summarise
from openr1.report.warnings import warnings_of


def build_report(run_dir: Path) -> dict[str, Any]:
    """Write report.json, report.md and report.html into `run_dir`, each at once or not at all; return the JSON.

    Works at any time: what is missing is named under `warnings`. Raises UserError where `run_dir` holds no run.
    """
    run = load_run(run_dir)
    summary = summarise(run)
    summary["claims"] = claims_of(run, summary["models"])
    summary["reference_costs"] = reference_costs(run)
    summary["probes"] = probes_of(run)
    summary["comparisons"] = [
        {"before": p.before_name, "after": p.after_name, "n": len(p.shared), **_keys(p.transitions())}
        for p in pairs_of(run)
    ]
    summary |= evaluation_of(run)
    summary["warnings"] = warnings_of(run, summary)
    summary["report"] = {kind: str(run_dir / f"report.{kind}") for kind in ("md", "html", "json")}
    link_samples(run)
    report: dict[str, Any] = cleaned(summary)
    title, lead, sections = f"Run {run.name}", _lead(run, report), all_sections(run, report)
    write_atomic(run_dir / "report.md", markdown.document(title, lead, sections))
    write_atomic(run_dir / "report.html", html.page(title, lead, sections))
    write_json(run_dir / "report.json", report)
    return report


def _keys(counts: dict[str, int]) -> dict[str, int]:
    return {k.replace(" ", "_"): v for k, v in counts.items()}


def _lead(run: Run, report: dict[str, Any]) -> str:
    done = sum(s.done for s in run.stages)
    stages = plural(len(run.stages), "stage") + (" all done" if report["complete"] else f", {done} done")
    seed = f" · seed {run.seed}" if run.seed is not None else ""
    return f"Recipe `{run.recipe}`{seed} · {stages} · {duration(report['total_seconds'])}"
