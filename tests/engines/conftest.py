"""What the tests of engines share: a stand-in for nvidia-smi."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """\
#!/bin/sh
for i in $(seq 0 {last}); do echo "$i, GPU-$i$i$i-abc, NVIDIA H100 80GB HBM3, 81559 MiB"; done
"""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`nvidia_smi(n)`: from here on this machine has n GPUs, to whoever asks nvidia-smi."""

    def install(count: int) -> None:
        folder = tmp_path / "nvidia"
        folder.mkdir()
        program = folder / "nvidia-smi"
        program.write_text(SCRIPT.format(last=count - 1))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install
