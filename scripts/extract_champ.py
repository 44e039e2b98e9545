"""Writes eval/data/champ.jsonl from PyPI's `champ-dataset` (MIT): the problems whose answers can be graded.

    pip download --no-deps champ-dataset==1.0.0 && python scripts/extract_champ.py champ_dataset-1.0.0-py3-none-any.whl

Of 270 problems those are kept whose answer, in LaTeX, is a formula that math-verify parses and that passes the audit
of golds with verifier `math`: it is graded correct against itself, and a changed answer is not. Left out are answers
that are sentences, or yes and no; what explains an answer ("or equivalently …") is cut off. The licence goes beside
the data.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

from openr1.manifest import write_atomic
from openr1.records import Prompt
from openr1.verify.audit import audit

VERSION = "1.0.0"
OUT = Path(__file__).resolve().parents[1] / "eval" / "data"
_PROSE = re.compile(r"[A-Za-z]{2,}")
_FUNCTIONS = frozenset({"sqrt", "sin", "cos", "tan", "log", "ln", "pi"})
_ALTERNATIVE = re.compile(
    r",? or (?:equivalently|approximately|an equivalent)\b.*|\s*\((?:i\.e\.|no |these ).*$", re.DOTALL
)


def gold_of(answer: str) -> str | None:
    """The answer in LaTeX, without what explains it; None where it is no expression."""
    text = _ALTERNATIVE.sub("", answer.replace("@@", "")).strip().rstrip(".")
    if any(word.lower() not in _FUNCTIONS for word in _PROSE.findall(text)):
        return None
    for sign, plain in {"−": "-", "π": r"\pi", "≤": r"\le", "≥": r"\ge", "±": r"\pm", "∞": r"\infty"}.items():
        text = text.replace(sign, plain)
    while (bare := re.sub(r"sqrt\(([^()]*)\)", r"\\sqrt{\1}", text)) != text:
        text = bare
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^(-?\d{2,})", r"^{\1}", text)
    text = re.sub(r"(?<![\\A-Za-z])(sin|cos|tan|log|ln|pi)(?![A-Za-z])", r"\\\1", text)
    return None if "sqrt(" in text.replace("\\sqrt{", "") else text.replace("*", r" \cdot ") or None


def is_formula(gold: str) -> bool:
    """Whether it can be read as a formula, with no dots for what is left out and no notation of the data set's own."""
    from math_verify import LatexExtractionConfig, parse

    if "..." in gold or re.search(r"\b[A-Z]\(", gold):
        return False
    return any(not isinstance(form, str) for form in parse(f"${gold}$", [LatexExtractionConfig()]))


def rows(dataset: dict) -> list[dict[str, str]]:
    """The gradable problems, in the order of the data set."""
    found = []
    for name, problem in dataset["problems"].items():
        gold = gold_of(problem["_raw_answer"])
        if gold is not None and is_formula(gold):
            text = problem["_text"].strip()
            found.append({"id": name, "problem": text, "answer": gold, "category": problem["category"]})
    prompts = [
        Prompt("champ", [{"role": "user", "content": row["problem"]}], row["answer"], "math", prompt_id=row["id"])
        for row in found
    ]
    bad = {problem.prompt_id: problem for problem in audit(prompts)}
    for problem in bad.values():
        print(f"left out {problem.prompt_id}: {problem.reason}; {problem.example}", file=sys.stderr)
    return [row for row in found if row["id"] not in bad]


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        dataset = json.loads(wheel.read("champ_dataset/dataset_files/v0.json"))
        licence = wheel.read(f"champ_dataset-{VERSION}.dist-info/LICENSE").decode()
    kept = rows(dataset)
    write_atomic(OUT / "champ.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    notice = (
        f"champ.jsonl: {len(kept)} problems of champ-dataset {VERSION} (PyPI), chosen, with answers in LaTeX, by\n"
    )
    notice += "scripts/extract_champ.py. CHAMP: A Competition-level Dataset for Fine-Grained Analyses of LLMs'\n"
    notice += "Mathematical Reasoning Capabilities, arXiv 2401.06961, https://yujunmao1.github.io/CHAMP/\n\n"
    write_atomic(OUT / "champ.LICENSE", notice + licence.strip() + "\n")
    print(f"{len(kept)} of {len(dataset['problems'])} problems", file=sys.stderr)


if __name__ == "__main__":
    main()
