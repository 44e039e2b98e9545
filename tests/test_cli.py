"""The command line as a person and a script meet it: speed, exit codes, one line for every mistake, JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openr1.cli import parse_args, run_cli

ROOT = Path(__file__).parents[1]


def openr1(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openr1.cli", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=120,
    )


def cpu_seconds(*words: str) -> float:
    """The processor time of the fastest of three runs, so that a loaded machine does not decide."""
    times = []
    for _ in range(3):
        before = os.times()
        done = openr1(*words)
        after = os.times()
        assert done.returncode == 0, done.stderr
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_help_is_instant() -> None:
    assert cpu_seconds("--help") < 0.5


def test_check_is_fast() -> None:
    assert cpu_seconds("check", "recipe=tiny") < 3.0


@pytest.mark.parametrize(
    "words", [["--help"], ["check", "recipe=tiny"], ["status"], ["check", "recipe=tiny", "--data"]]
)
def test_no_torch_for_what_needs_none(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from openr1.cli import run_cli\n"
        "try: run_cli(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_exit_codes() -> None:
    assert openr1().returncode == 2
    assert openr1("runn", "recipe=tiny").returncode == 2
    assert openr1("run").returncode == 2
    assert openr1("run", "recipe=tny").returncode == 1
    assert openr1("check", "recipe=tiny", "--strict").returncode == 1
    assert openr1("check", "recipe=tiny", "--strict", "--data").returncode == 0


def test_a_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = openr1("run", "recipe=tiny", "stages.sft.train.learning_rte=9.0", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith("openr1: stages.sft.train.learning_rte:")
    assert "did you mean learning_rate" in line
    assert not (tmp_path / "runs").exists()


def test_json_is_alone_on_stdout() -> None:
    done = openr1("check", "recipe=tiny", "--json")
    assert json.loads(done.stdout)["recipe"] == "tiny"


@pytest.mark.parametrize(
    "words",
    [
        ["check", "recipe=tiny", "--json", "seed=7"],
        ["check", "--json", "recipe=tiny", "seed=7"],
        ["check", "recipe=tiny", "seed=7", "--json"],
    ],
)
def test_options_stand_before_or_after_settings(words: list[str]) -> None:
    args = parse_args(words)
    assert args.json and args.words == ["recipe=tiny", "seed=7"]


def test_what_is_no_option_is_wrong_usage() -> None:
    for words in (["check", "recipe=tiny", "--dta"], ["status", "a", "b"], ["check", "recipe=tiny", "--json", "-x"]):
        with pytest.raises(SystemExit) as caught:
            parse_args(words)
        assert caught.value.code == 2


def test_a_reward_of_ones_own_lies_beside_the_user(tmp_path: Path) -> None:
    """`-P` starts Python as the installed program does: without the working directory on the path."""
    (tmp_path / "mine.py").write_text("def short(batch, limit=9):\n    return [1.0 for _ in batch.completions]\n")
    words = ["check", "recipe=tiny", "stages.grpo.reward.parts.mine={function: 'mine:short', params: {limit: 5}}"]
    command = [sys.executable, "-P", "-m", "openr1.cli"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    wrong = [*words[:2], words[2].replace("limit: 5", "limt: 5")]
    done = subprocess.run([*command, *wrong], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 1 and "did you mean limit" in done.stderr


# ------------------------------------------------------------------------------------------------------------ grade
GRADED = [
    {"answer": "3", "completion": "so <answer>3</answer>"},
    {"answer": "3", "completion": "so <answer>4</answer>"},
    {"answer": "3", "completion": "so <answer>3", "finish_reason": "length"},
    {"answer": None, "completion": "so <answer>3</answer>"},
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GRADED))
    return path


def test_grade_writes_verdicts_and_a_summary(rows: Path, tmp_path: Path) -> None:
    done = openr1("grade", "rows.jsonl", "--workers", "1", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    keys = ["n", "by_status", "accuracy", "low", "high", "seconds", "pairs_per_second", "slowest"]
    assert list(found) == keys and done.returncode == 0
    assert found["by_status"] == {"bad_gold": 1, "correct": 1, "truncated": 1, "wrong": 1}
    assert found["accuracy"] == pytest.approx(1 / 3)
    graded = [json.loads(line) for line in (tmp_path / "rows.graded.jsonl").read_text().splitlines()]
    assert [row["status"] for row in graded] == ["correct", "wrong", "truncated", "bad_gold"]


def test_grade_tells_people_how_it_went(rows: Path, tmp_path: Path) -> None:
    done = openr1("grade", "rows.jsonl", "-o", "out.jsonl", "--verifier", "exact", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, _, last = done.stdout.splitlines()
    assert first.startswith("accuracy 0.333 (95% interval ") and first.endswith("3 of n = 4 scored)")
    assert second.startswith("n = 4 completions, 1 masked: ") and last == "out.jsonl"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["rows.jsonl", "--gold", "anser"], "no column 'anser': did you mean answer"),
        (["rows.jsonl", "--verifier", "maths"], "did you mean math"),
        (["rows.jsonl", "--workers", "0"], "give 1 or more"),
        (["rows.jsonl", "-o", "rows.jsonl"], "the output is the input"),
    ],
)
def test_grade_names_what_is_missing(words: list[str], says: str, rows: Path, tmp_path: Path) -> None:
    done = openr1("grade", *words, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and says in line


def test_status_and_logs_of_a_run_that_is_not_there(tmp_path: Path) -> None:
    for words in (["status", "nope"], ["logs", "nope"]):
        done = openr1(*words, cwd=tmp_path)
        assert done.returncode == 1 and "no such run" in done.stderr
    assert "no runs yet" in openr1("status", cwd=tmp_path).stdout


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("precious")
    done = openr1("run", "recipe=tiny", "run=mine", cwd=tmp_path)
    assert done.returncode == 1 and "no run of openr1" in done.stderr


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Call a verb with --json in an empty folder; the one document that it prints."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> dict:
        code = run_cli([*words, "--json"])
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert found["exit"] == code and err.splitlines() == [f"openr1: {p}" for p in found["problems"]]
        return found

    return call


def test_a_verb_that_fails_says_so_in_json(fails: Callable[..., dict], monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails("status", "nope")["exit"] == 1
    assert fails("run", "recipe=tiny", "seeed=1")["problems"] == ["seeed: no such key; did you mean seed?"]
    found = fails("check", "recipe=local_example", "data.path=nowhere.csv")
    assert found["recipe"] == "local_example" and "nowhere.csv: no such file" in found["problems"][0]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("openr1.launch.status.find_run", interrupt)
    assert fails("status", "nope") == {"problems": ["interrupted"], "exit": 130}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["stages=[]"], 1, "stages=[]: names no stage"),
        (["rerun="], 1, "rerun=[]: names no stage"),
        (["stages=[grpoo]"], 1, "did you mean grpo"),
        (["stages=[sft]", "rerun=[grpo]"], 1, "grpo is not among stages=[sft]"),
        (["recipe=tiny"], 2, "recipe= is there twice"),
        (["run="], 1, "names no folder"),
        (["run=."], 1, "names no folder"),
        (["run=a/.."], 1, "names no folder"),
        (["run=a\x1bb"], 1, "control character"),
        ([f"run={'a' * 201}"], 1, "at most 200"),
    ],
)
def test_words_of_the_verbs_are_checked(words: list[str], code: int, says: str, fails: Callable[..., dict]) -> None:
    found = fails("check", "recipe=tiny", *words)
    assert found["exit"] == code and len(found["problems"]) == 1 and says in found["problems"][0]


@pytest.mark.parametrize(
    ("word", "says"), [("tiny", "recipe=tiny?"), ("recipes/recipe/tiny_shrt.yaml", "=tiny_short?")]
)
def test_a_recipe_without_its_word_is_known(word: str, says: str, fails: Callable[..., dict]) -> None:
    found = fails("check", word)
    assert found["exit"] == 2 and says in found["problems"][0]


def test_a_file_where_a_run_should_lie_is_one_line(
    fails: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("precious")
    assert "taken: is a file" in fails("run", "recipe=tiny", "run=./taken")["problems"][0]
    monkeypatch.setenv("OPENR1_RUNS", "taken")
    assert "taken: is a file" in fails("run", "recipe=tiny")["problems"][0]


def test_a_run_with_a_slash_is_a_path_and_another_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openr1.errors import UserError
    from openr1.launch.status import find_run, run_path

    monkeypatch.chdir(tmp_path)
    for place in ("runs/a", "a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "run.yaml").write_text("")
    assert find_run("a") == run_path("a") == Path("runs/a")
    assert find_run("./a") == run_path("./a/") == Path("a")
    with pytest.raises(UserError, match="no run there"):
        find_run("./b")


def test_doctor_says_what_is_there_and_ends_in_bounded_time() -> None:
    started = time.monotonic()
    done = openr1("doctor", "--json", HF_ENDPOINT="http://127.0.0.1:9", WANDB_BASE_URL="http://127.0.0.1:9")
    assert time.monotonic() - started < 30
    found = json.loads(done.stdout)
    assert {"versions", "devices", "sandbox", "slurm", "hub", "wandb", "disk"} <= set(found)
    tiers = found["sandbox"]["tiers"]
    assert found["sandbox"]["tier"] == next((name for name, report in tiers.items() if report["works"]), None)
    assert all(report["works"] or report["reason"] for report in tiers.values())
    assert found["hub"]["reachable"] is False
    assert found["devices"]["cores"] >= 1


def test_the_reference_page_is_the_programs_own() -> None:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.reference()
