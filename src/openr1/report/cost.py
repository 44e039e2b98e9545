"""What models cost to make: by the stage itself, with and without the training of teachers, beside the paper's.

A teacher is a model that a stage did not start from and whose answers it learned from: for a distilled student the
whole training of the large model, for a model trained on the answers of a later stage of itself that stage's training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from openr1.paths import data_dir
from openr1.report.load import TRAINING_KINDS, Run, Stage
from openr1.report.numbers import finite

REFERENCE = "reference_costs.yaml"
KINDS_OF_TOKENS = ("trained", "generated", "prompt")


def amounts(run: Run, stages: Iterable[Stage]) -> dict[str, Any]:
    """Tokens by kind, wall-clock seconds of all attempts and FLOPs of some stages; None where nobody measured it.

    `tokens` is trained + generated. `flops_training` and `flops_generation` share a stage's FLOPs as 6 to 2 a token.
    """
    done = [s for s in stages if s.manifest is not None]
    manifests = [s.manifest for s in done if s.manifest is not None]
    if not manifests:
        return dict.fromkeys((*KINDS_OF_TOKENS, "tokens", "seconds", "flops", "flops_training", "flops_generation"))
    tokens = {k: sum(int(m.tokens.get(k, 0)) for m in manifests) for k in KINDS_OF_TOKENS}
    flops = [f for s in done if (f := flops_of(run, s)) is not None]
    return tokens | {
        "tokens": tokens["trained"] + tokens["generated"],
        "seconds": sum(m.total_seconds or m.seconds for m in manifests),
        "flops": sum(sum(pair) for pair in flops) if flops else None,
        "flops_training": sum(pair[0] for pair in flops) if flops else None,
        "flops_generation": sum(pair[1] for pair in flops) if flops else None,
    }


def flops_of(run: Run, stage: Stage) -> tuple[float, float] | None:
    """(FLOPs of training, FLOPs of generation) of a stage; None where it has none or they are not known."""
    if stage.manifest is None:
        return None
    tokens = stage.manifest.tokens
    trained = int(tokens.get("trained", 0))
    read = int(tokens.get("generated", 0)) + int(tokens.get("prompt", 0))
    whole = finite(stage.results.get("flops"))
    if whole is None:
        maker = run.maker(stage)
        parameters = finite(maker.results.get("parameters")) if maker else None
        if parameters is None or not read or trained:
            return None
        return 0.0, 2.0 * parameters * read
    if not 3 * trained + read:
        return (whole, 0.0) if stage.kind in TRAINING_KINDS else (0.0, whole)
    share = 3 * trained / (3 * trained + read)
    return whole * share, whole * (1 - share)


def cost_of_model(run: Run, maker: Stage | None) -> dict[str, Any]:
    """`own`: the stage that made the model. `total`: every stage it rests on. `teacher`: of those, the training of
    models that it did not start from (`stages` names them). `alone`: the total without the teacher."""
    lineage = run.lineage(maker.name) if maker else []
    chain, current = set(), maker
    while current is not None and current.name not in chain:
        chain.add(current.name)
        current = run.maker(current)
    teachers = [s for s in lineage if s.kind in TRAINING_KINDS and s.name not in chain]
    alone = [s for s in lineage if s not in teachers]
    return {
        "own": amounts(run, [maker] if maker else []),
        "alone": amounts(run, alone),
        "teacher": amounts(run, teachers) | {"stages": [s.name for s in teachers]},
        "total": amounts(run, lineage),
    }


def reference_costs(run: Run) -> list[dict[str, Any]]:
    """The paper's costs, row by row, beside those of the stages that play the same part in `run`; [] for a recipe that
    puts no claim of the paper to the test, or has none of these stages.

    `here`: amounts of those stages, None where the run has none of them; `share` of the rows that count to the total,
    theirs by GPU-hours and ours by FLOPs.
    """
    path = data_dir("eval") / REFERENCE
    if not run.config.get("claims") or not path.is_file():
        return []
    reference = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = []
    for row in reference["rows"]:
        found = [s for name in row["stages"] if (s := run.stage(name)) is not None and s.done]
        rows.append(row | {"here": amounts(run, found) | {"stages": [s.name for s in found]} if found else None})
    if not any(row["here"] for row in rows if row["in_total"]):
        return []
    ours = sum((row["here"] or {}).get("flops") or 0 for row in rows if row["in_total"])
    for row in rows:
        mine = (row["here"] or {}).get("flops")
        row["share"] = {
            "paper": row["gpu_hours"]["value"] / reference["total"]["gpu_hours"] if row["in_total"] else None,
            "here": mine / ours if row["in_total"] and mine is not None and ours else None,
        }
    return rows
