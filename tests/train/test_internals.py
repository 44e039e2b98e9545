"""What of TRL's private parts is used is still as assumed; an upgrade is named here first."""

from __future__ import annotations

from pathlib import Path

import pytest
import trl_assumptions
from trl_assumptions import broken_internals

from openr1.train import trl_internals


def test_trl_is_as_trl_internals_assumes() -> None:
    assert broken_internals() == []


def test_a_change_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import GRPOTrainer

    monkeypatch.setattr(trl_assumptions, "PINNED", "1.15")
    monkeypatch.setattr(GRPOTrainer, "_generate", lambda self, prompts, extra: None)
    monkeypatch.setattr(GRPOTrainer, "_prepare_inputs", lambda self, generation_batch: generation_batch)
    problems = "\n".join(broken_internals())
    assert "written against 1.15" in problems
    assert "GRPOTrainer._generate takes ('self', 'prompts', 'extra')" in problems
    assert "GRPOTrainer._prepare_inputs no longer contains" in problems


def test_only_one_file_touches_private_parts() -> None:
    """No other module of the room reads an underscore attribute of a trainer or imports TRL's inner modules."""
    import re

    room = Path(trl_internals.__file__).parent
    for file in room.glob("*.py"):
        if file.name != "trl_internals.py":
            text = file.read_text()
            assert not re.search(r"trainer\._[a-z]", text) and "trl.trainer" not in text, file.name
