"""Configuration: Hydra composes a plain tree, one pass validates all of it, `run.yaml` keeps it."""

from openr1.config.compose import compose_recipe, recipe_names
from openr1.config.recipe import Recipe, load_run_yaml, save_run_yaml, validate

__all__ = ["Recipe", "compose_recipe", "load_run_yaml", "recipe_names", "save_run_yaml", "validate"]
