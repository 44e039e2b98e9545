"""The stage `benchmark` on a scripted server: exact scores, growth, resume, copies, what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from openai_server import ScriptedServer, number_of

from openr1.engines.settings import TransformersSettings
from openr1.errors import OutsideError, UserError
from openr1.metrics import MetricLog
from openr1.stages import benchmark as stage
from openr1.stages.base import StageContext, StageResult, finish_outputs
from openr1.stages.benchmark_answers import together
from openr1.stages.settings import BenchmarkStage
from openr1.tasks.questions import load_questions


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    with ScriptedServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def server(one_server: ScriptedServer) -> ScriptedServer:
    one_server.calm()
    return one_server


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sums as GSM8K, and questions with choices as GPQA."""
    folder = tmp_path / "data"
    folder.mkdir()
    sums = [{"question": f"What is {i}+{7 * i}?", "answer": f"#### {8 * i}"} for i in range(10, 30)]
    (folder / "gsm8k.jsonl").write_text("".join(json.dumps(r) + "\n" for r in sums))
    monkeypatch.setenv("OPENR1_DATA_DIR", str(folder))
    return folder


def settings(server: ScriptedServer, **changes: Any) -> BenchmarkStage:
    engine = {"name": "openai", "base_url": [server.url], "max_wait_s": 30.0}
    given = {"kind": "benchmark", "seed": 0, "engine": engine, "benchmarks": ["gsm8k"], "second_grader": False}
    return BenchmarkStage.model_validate(given | changes)


def run(folder: Path, asked: BenchmarkStage) -> StageResult:
    context = StageContext("r", "evaluate", folder, asked, {}, MetricLog(folder / "metrics.jsonl"))
    result = stage.run(context)
    for _ in finish_outputs(folder, result.outputs):
        pass
    return result


def expected(k: int) -> float:
    """The share of right answers, from what the server is scripted to say."""
    from openr1.records import request_seed

    marks = []
    for q in load_questions("gsm8k"):
        prompt = f"user: {q.prompt().messages[0]['content']}"
        marks += [number_of(prompt, request_seed(0, q.id, i)) % 10 < 7 for i in range(k)]
    return sum(marks) / len(marks)


def test_benchmarks_that_draw_alike_are_asked_at_once_and_kept_apart(
    server: ScriptedServer, tmp_path: Path, data: Path
) -> None:
    more = [{"problem": f"Add {i}+{i}.", "answer": str(2 * i), "unique_id": str(i)} for i in range(10, 20)]
    (data / "math_500.jsonl").write_text("".join(json.dumps(r) + "\n" for r in more))
    asked = settings(server, benchmarks=["gsm8k", "math_500"], k=2, max_new_tokens=512)
    assert together(asked) == [["gsm8k", "math_500"]]
    server.control(max_running=1000, latency=0.5)
    found = run(tmp_path / "s", asked).results["benchmarks"]
    assert server.stats()["most"] > 40  # more than either benchmark has requests
    alone = run(tmp_path / "alone", asked.model_copy(update={"benchmarks": ["math_500"]})).results["benchmarks"]
    assert found["math_500"] == alone["math_500"] and found["gsm8k"]["accuracy"] == pytest.approx(expected(2))
    for name, n in (("gsm8k", 40), ("math_500", 20)):
        assert len(pq.read_table(tmp_path / "s" / "samples" / f"{name}.parquet")) == n
    before = len(server.answered())
    run(tmp_path / "s", asked)
    assert len(server.answered()) == before
    own = settings(server, benchmarks=["gsm8k", "math_500"], k=2)  # 8,192 and 32,768 tokens
    assert together(own) == [["gsm8k"], ["math_500"]]
    here = asked.model_copy(update={"engine": TransformersSettings(name="transformers", batch_size=4)})
    assert together(here) == [["gsm8k"], ["math_500"]]


def test_scores_are_exactly_what_the_server_says(server: ScriptedServer, tmp_path: Path) -> None:
    found = run(tmp_path / "s", settings(server, k=4)).results["benchmarks"]["gsm8k"]
    assert (found["n"], found["k"]) == (20, 4)
    assert found["accuracy"] == pytest.approx(expected(4), abs=1e-12)
    assert found["low"] < found["low_resampling"] < found["accuracy"] < found["high_resampling"] < 1
    assert found["pass_at"]["1"] == pytest.approx(found["accuracy"])
    assert found["provenance"]["engine"] == "openai" and found["provenance"]["max_new_tokens"] == 8192
    table = pq.read_table(tmp_path / "s" / "samples" / "gsm8k.parquet")
    assert table.num_rows == 80 and sum(s == "correct" for s in table["status"].to_pylist()) == round(expected(4) * 80)


def test_a_larger_k_asks_only_for_the_new_ones(server: ScriptedServer, tmp_path: Path) -> None:
    run(tmp_path / "s", settings(server, k=4))
    before = server.stats()["answered"]
    found = run(tmp_path / "s", settings(server, k=16))
    assert server.stats()["answered"] - before == 20 * 12
    assert found.results["benchmarks"]["gsm8k"]["accuracy"] == pytest.approx(expected(16), abs=1e-12)
    less = run(tmp_path / "s", settings(server, k=4))
    assert less.results["benchmarks"]["gsm8k"]["accuracy"] == pytest.approx(expected(4), abs=1e-12)
    assert server.stats()["answered"] - before == 20 * 12


def test_faults_and_delays_change_no_score(server: ScriptedServer, tmp_path: Path) -> None:
    server.control(p_500=0.2, p_malformed=0.1, p_reset=0.1, latency=0.01)
    found = run(tmp_path / "s", settings(server, k=4)).results["benchmarks"]["gsm8k"]
    assert found["accuracy"] == pytest.approx(expected(4), abs=1e-12)
    assert found["masked"] == 0


def test_64_requests_are_in_flight(server: ScriptedServer, tmp_path: Path) -> None:
    server.control(latency=0.2)
    run(tmp_path / "s", settings(server, k=16))
    assert server.stats()["most"] >= 60


def test_samples_that_are_copies_are_said_to_be(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = {"name": "openai", "base_url": [server.url], "extra": {"seed": 7}}
    found = run(tmp_path / "s", settings(server, k=4, engine=engine)).results["benchmarks"]["gsm8k"]
    assert found["identical"] == 20
    assert "all 4 samples are the same text in 20 of 20 questions" in caplog.text


def test_several_benchmarks_are_served_by_one_engine(server: ScriptedServer, tmp_path: Path) -> None:
    found = run(tmp_path / "s", settings(server, k=1, temperature=0.5, limit=5, benchmarks=["gsm8k", "champ"]))
    assert {name: b["n"] for name, b in found.results["benchmarks"].items()} == {"gsm8k": 5, "champ": 5}
    again = run(tmp_path / "s", settings(server, k=1, temperature=0.5, limit=5, benchmarks=["champ"]))
    assert again.counts["out"] == 5 and not (tmp_path / "s" / "samples" / "gsm8k.parquet").exists()


def test_an_endpoint_that_cannot_do_it_is_one_line(server: ScriptedServer, tmp_path: Path) -> None:
    server.control(unknown_field=["seed"])
    with pytest.raises((UserError, OutsideError), match="seed"):
        run(tmp_path / "s", settings(server, k=1))
    server.calm()
    server.control(status=401, message="no")
    with pytest.raises(UserError, match="key|401"):
        run(tmp_path / "t", settings(server, k=1))


def test_the_model_that_is_named_is_the_one_that_is_asked(server: ScriptedServer, tmp_path: Path) -> None:
    server.control(model=["tiny", "other"])
    found = run(tmp_path / "s", settings(server, k=1, limit=2, model={"source": "other"}))
    assert found.results["engine"]["model"] == "other"
    with pytest.raises(UserError, match="does not serve 'third'"):
        run(tmp_path / "t", settings(server, k=1, limit=2, model={"source": "third"}))
