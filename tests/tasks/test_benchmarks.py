"""Benchmark definitions and where their questions are found; nothing here asks the network."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr1.errors import UserError
from openr1.paths import data_dir
from openr1.records import Prompt
from openr1.tasks.benchmarks import NotAvailable, benchmark_files, benchmark_rows, benchmark_texts
from openr1.tasks.definitions import benchmark_names, load_benchmark, read_benchmark
from openr1.verify import verifier_names
from openr1.verify.audit import audit

NAMES = [
    "aime24", "aime25", "champ", "codeforces", "gpqa_diamond", "gsm8k", "humaneval", "ioi24", "livecodebench",
    "math_500", "mgsm_es", "mgsm_fr", "mgsm_zh", "mmlu_pro",
    "reasoning_gym", "reasoning_gym_hard", "reasoning_gym_sums",
]  # fmt: skip
QUESTION = "How many positive integers below 1000 are divisible by 7 and by 11 at once?"
# one row of each source with its real columns; the questions are made up
ROWS: dict[str, dict[str, Any]] = {
    "aime24": {"id": 60, "problem": QUESTION, "solution": "…", "answer": "012", "url": "https://…", "year": "2024"},
    "aime25": {"problem": QUESTION, "answer": "12", "id": "0"},
    "math_500": {
        "problem": QUESTION, "solution": "…", "answer": "12", "subject": "Number Theory", "level": 2,
        "unique_id": "test/number_theory/1.json",
    },
    "gpqa_diamond": {
        "Question": QUESTION, "Correct Answer": "12", "Incorrect Answer 1": "11", "Incorrect Answer 2": "13",
        "Incorrect Answer 3": "14", "Record ID": "rec1", "Subdomain": "Organic Chemistry",
    },
    "gsm8k": {"question": QUESTION, "answer": "1000/77 is 12.98…\n#### 12"},
    "mmlu_pro": {
        "question_id": 70, "question": QUESTION, "options": ["11", "12"], "answer": "B", "answer_index": 1,
        "cot_content": "", "category": "math", "src": "made up",
    },
    "mgsm_es": {"question": QUESTION, "answer": None, "answer_number": 12, "equation_solution": None},
    "mgsm_fr": {"question": QUESTION, "answer": None, "answer_number": 12, "equation_solution": None},
    "mgsm_zh": {"question": QUESTION, "answer": None, "answer_number": 12, "equation_solution": None},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of the Hub, and no folder of data."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("OPENR1_DATA_DIR", raising=False)


def _jsonl(path: Path, row: dict[str, Any]) -> None:
    path.write_text(json.dumps(row) + "\n")


def _csv(path: Path, row: dict[str, Any]) -> None:
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, list(row))
        writer.writeheader()
        writer.writerow(row)


def _parquet(path: Path, row: dict[str, Any]) -> None:
    pq.write_table(pa.Table.from_pylist([row]), path)


WRITERS: dict[str, Callable[[Path, dict[str, Any]], None]] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}


def test_every_definition_is_valid_and_says_where_it_comes_from() -> None:
    assert benchmark_names() == NAMES
    for name in NAMES:
        benchmark = load_benchmark(name)
        assert benchmark.verifier in verifier_names()
        assert benchmark.licence and benchmark.homepage.startswith("https://")
        shipped = (data_dir("eval") / "data" / f"{name}.jsonl").is_file()
        assert benchmark.source is not None or benchmark.generated is not None or shipped


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", ROWS)
def test_a_folder_of_data_is_read(name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    WRITERS[suffix](tmp_path / f"{name}{suffix}", ROWS[name])
    columns = load_benchmark(name).columns
    texts = benchmark_texts(name)
    rows = benchmark_rows(name)
    assert not isinstance(rows, NotAvailable) and rows.rows[0][columns.answer] is not None and rows.commits == {}
    assert texts == [(str(ROWS[name].get(columns.id or "", 0)), QUESTION)]


def test_a_folder_of_a_benchmark_may_hold_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    (tmp_path / "aime25" / "data").mkdir(parents=True)
    for part in ("I", "II"):
        _jsonl(tmp_path / "aime25" / "data" / f"{part}.jsonl", ROWS["aime25"] | {"id": part})
    texts = benchmark_texts("aime25")
    assert isinstance(texts, list) and [key for key, _ in texts] == ["I", "II"]


@pytest.mark.parametrize(
    ("name", "file", "write"),
    [
        ("math_500", "test.jsonl", _jsonl), ("gsm8k", "main/test-00000-of-00001.parquet", _parquet),
        ("gpqa_diamond", "gpqa_diamond.csv", _csv), ("mgsm_es", "es/test-00000-of-00001.parquet", _parquet),
        ("mgsm_zh", "mgsm_zh.tsv", lambda path, row: path.write_text(f"{row['question']}\t{row['answer_number']}\n")),
    ],
)  # fmt: skip
def test_what_the_cache_of_the_hub_holds_is_read(
    name: str, file: str, write: Callable[[Path, dict[str, Any]], None], tmp_path: Path
) -> None:
    source = load_benchmark(name).source
    assert source is not None
    repo = tmp_path / "hub" / f"datasets--{source.id.replace('/', '--')}"
    path = repo / "snapshots" / source.revision / file
    path.parent.mkdir(parents=True)
    write(path, ROWS[name])
    texts = benchmark_texts(name)
    assert isinstance(texts, list) and texts[0][1] == QUESTION
    assert [p.name for p in benchmark_files(name)] == [path.name]
    rows = benchmark_rows(name)
    assert not isinstance(rows, NotAvailable) and rows.commits == {name: source.revision}
    assert isinstance(benchmark_rows(name, revisions={name: "2" * 40}), NotAvailable)


def test_a_branch_is_recorded_as_the_commit_that_it_stood_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repo = tmp_path / "hub" / "datasets--math-ai--aime25"
    for commit in ("1" * 40, "2" * 40):
        (repo / "snapshots" / commit).mkdir(parents=True)
        _jsonl(repo / "snapshots" / commit / "test.jsonl", ROWS["aime25"])
    (repo / "refs").mkdir()
    (repo / "refs" / "newest").write_text("1" * 40)
    for asked, commit in (("newest", "1" * 40), ("2" * 40, "2" * 40)):
        rows = benchmark_rows("aime25", revisions={"aime25": asked})
        assert not isinstance(rows, NotAvailable) and rows.commits == {"aime25": commit}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_not_to_hand_says_how_to_get_it(name: str) -> None:
    missing = benchmark_texts(name)
    source = load_benchmark(name).source
    assert isinstance(missing, NotAvailable) and source is not None
    assert source.id in str(missing) and "OPENR1_DATA_DIR" in str(missing) and "\n" not in str(missing)
    assert ("ask for access" in str(missing)) == (name == "gpqa_diamond")


def test_a_short_question_is_known_by_its_choices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    _jsonl(tmp_path / "mmlu_pro.jsonl", ROWS["mmlu_pro"] | {"question": "Which of these is true?"})
    assert benchmark_texts("mmlu_pro") == [("70", "Which of these is true?\n11\n12")]


# ------------------------------------------------------------------------------------------------------ what ships
def test_champ_ships_with_its_licence_and_every_gold_grades() -> None:
    file = data_dir("eval") / "data" / "champ.jsonl"
    benchmark = load_benchmark("champ")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert benchmark.problems == len(rows) == len({row["id"] for row in rows})
    assert benchmark.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.stat().st_size < 1_000_000
    assert "Permission is hereby granted" in (file.parent / "champ.LICENSE").read_text()
    prompts = [Prompt("champ", [{"role": "user", "content": r["problem"]}], r["answer"], "math") for r in rows]
    assert audit(prompts) == []


# ------------------------------------------------------------------------------------------------------- bad input
def test_an_unknown_benchmark_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"math500.*did you mean math_500\?"):
        load_benchmark("math500")


def test_every_problem_of_a_definition_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    raw = (data_dir("eval") / "benchmarks" / "gsm8k.yaml").read_text()
    path.write_text(raw.replace("verifier:", "verifer:").replace("split:", "splitt:").replace("{question}", "{q}"))
    with pytest.raises(UserError) as e:
        read_benchmark(path)
    lines = str(e.value).splitlines()
    assert any("verifer: no such entry; did you mean verifier?" in line for line in lines)
    assert any("source.splitt: no such entry; did you mean split?" in line for line in lines)
    path.write_text(raw.replace("temperature: 0.6", "temperature: 0"))
    with pytest.raises(UserError, match="k is 4 at temperature 0"):
        read_benchmark(path)
    for broken in ("- a\n- b\n", "a: [\n"):
        path.write_text(broken)
        with pytest.raises(UserError, match="x.yaml"):
            read_benchmark(path)


def test_a_file_without_the_column_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    _jsonl(tmp_path / "gsm8k.jsonl", {"prompt": QUESTION, "answer": "#### 12"})
    with pytest.raises(UserError, match="gsm8k.*no column 'question'.*there is prompt, answer"):
        benchmark_texts("gsm8k")
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="OPENR1_DATA_DIR.*is no folder"):
        benchmark_texts("gsm8k")
