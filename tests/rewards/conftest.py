"""A tiny sequence classifier, a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_classifier import tiny_classifier


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_classifier(labels=1, template=True, pad=True)`: the folder of one."""
    return lambda **how: tiny_classifier(tmp_path_factory.mktemp("classifier"), **how)


@pytest.fixture(scope="session")
def classifier(make_classifier: Callable[..., Path]) -> Path:
    """A model of preferences with one output."""
    return make_classifier()
