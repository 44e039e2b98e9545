"""Writes constraints.txt from the packages of `.venv`: run the tests first, then `make constraints`, then commit it.

torch keeps its bare version (2.13.0, not 2.13.0+cpu), so that the same file serves its CPU and CUDA builds. What only
one of the two brings (nvidia-*, triton, …) is left to torch, which names exact versions itself.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "constraints.txt"
LEFT_OUT = re.compile(r"^(openr1|pip|setuptools|wheel|torch|triton|nvidia-.*|cuda-.*)$")
HEADER = """\
# The versions that openr1 was tested with; written by `make constraints`, read by `make setup`.
# pip install --constraint constraints.txt openr1
# torch has no build tag here: make setup chooses the CPU or the CUDA build of this version.
"""


def pins() -> list[str]:
    """`name==version` for every installed distribution that is pinned, sorted by normalised name."""
    versions = {re.sub(r"[-_.]+", "-", item.name).lower(): item.version for item in distributions()}
    kept = {name: version for name, version in versions.items() if not LEFT_OUT.match(name)}
    kept["torch"] = versions["torch"].partition("+")[0]
    return [f"{name}=={kept[name]}" for name in sorted(kept)]


if __name__ == "__main__":
    FILE.write_text(HEADER + "\n".join(pins()) + "\n")
