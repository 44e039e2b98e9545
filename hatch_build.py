"""Puts the folders that openr1 reads at run time into the wheel; an editable install reads them from the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = ("constraints.txt", "eval", "recipes", "slurm")


class ShippedData(BuildHookInterface):
    """`recipes` of the checkout is `openr1/_data/recipes` of the wheel, and so on (see openr1.paths)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        present = [name for name in SHIPPED if Path(self.root, name).exists()]
        build_data["force_include"].update({name: f"openr1/_data/{name}" for name in present})
