"""Two steps of every published recipe, with tiny models and datasets of the same architecture and columns."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from shrink import shrink

from openr1.config import compose_recipe, validate
from openr1.launch.engine import run_stage
from openr1.launch.plan import make_plan
from openr1.manifest import load_manifest
from openr1.metrics import read_metrics
from openr1.models.source import load_model
from openr1.paths import data_dir
from openr1.stages.settings import ExtendContextStage, GRPOStage, SFTStage

FOLDER = data_dir("recipes") / "recipe"


def published(path: Path) -> bool:
    """Whether a recipe, or one that it builds on, says which clusters it is meant for."""
    tree = yaml.safe_load(path.read_text())
    parents = [FOLDER / f"{d}.yaml" for d in tree["defaults"] if isinstance(d, str) and d != "_self_"]
    return "clusters" in tree or any(published(parent) for parent in parents)


PUBLISHED = sorted(path.stem for path in FOLDER.glob("*.yaml") if published(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_two_steps_of_a_recipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tree = shrink(compose_recipe(name, []), tmp_path)
    folder = tmp_path / "run"
    tree["run"] = str(folder)
    recipe = validate(tree)
    folder.mkdir()
    for stage in recipe.order():
        step = next(s for s in make_plan(recipe, folder, [stage], []) if s.stage == stage)
        manifest = run_stage(recipe, folder, step)
        assert manifest.status == "done"
    for stage, settings in recipe.stages.items():
        if isinstance(settings, SFTStage | GRPOStage):
            told = load_manifest(folder / stage)
            assert told is not None and told.results["steps"] == 2
            logged = read_metrics(folder / stage / "metrics.jsonl")
            assert [row["step"] for row in logged] == [1, 2]
            model = load_model(folder / stage / "model")
            assert model.config.model_type == _architecture(recipe.stages, stage)
        if isinstance(settings, ExtendContextStage):
            config = load_model(folder / stage / "model").config
            assert config.max_position_embeddings == 1024
            assert config.rope_parameters["rope_theta"] == settings.rope_theta


def _architecture(stages: dict, name: str) -> str:
    from openr1.config.fit import model_of

    model = model_of(stages, name)
    assert model is not None
    return str(model.architecture)
