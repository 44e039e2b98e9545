"""The openai engine against a scripted server: what is asked, what comes back, what is refused before it starts."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openai_server import ScriptedServer

from openr1.engines import make_requests, open_engine
from openr1.engines.base import Request
from openr1.engines.http_engine import HTTPEngine
from openr1.engines.settings import OpenAISettings, SamplingSettings
from openr1.errors import OutsideError, UserError
from openr1.records import Completion, Prompt

SAMPLING = SamplingSettings(temperature=0.8, top_p=0.9, top_k=20, max_new_tokens=64)


def prompts(n: int) -> list[Prompt]:
    return [
        Prompt(task="t", messages=[{"role": "user", "content": f"What is {i}+{i * i}?"}], answer="0", verifier="math")
        for i in range(n)
    ]


def requests(n: int = 10, k: int = 2) -> list[Request]:
    return make_requests(prompts(n), k, 7)


def engine_for(*servers: ScriptedServer | str, **settings: object) -> HTTPEngine:
    urls = [s if isinstance(s, str) else s.url for s in servers]
    return open_engine(OpenAISettings(name="openai", base_url=urls, **settings), None)  # type: ignore[arg-type, return-value]


def rows_of(engine: HTTPEngine, asked: list[Request], **kwargs: object) -> list[Completion]:
    return [row for commit in engine.generate(asked, SAMPLING, **kwargs) for row in commit]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    with ScriptedServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def server(one_server: ScriptedServer) -> ScriptedServer:
    """The module's server, without the faults of the test before."""
    one_server.calm()
    return one_server


# ------------------------------------------------------------------------------------------------ what is asked for
def test_every_request_is_answered_once_and_says_how(server: ScriptedServer) -> None:
    asked = requests()
    rows = rows_of(engine_for(server), asked)
    assert Counter(r.key for r in rows) == Counter(r.key for r in asked)
    assert {r.key: r.seed for r in rows} == {r.key: r.seed for r in asked}
    assert {r.finish_reason for r in rows} == {"stop"} and not any(r.error for r in rows)
    assert all(r.text.startswith("<think>\n") and r.answer and "boxed" in r.answer for r in rows)
    assert all(r.prompt_tokens == 4 and 8 < r.completion_tokens < 64 and r.seconds > 0 for r in rows)
    again = rows_of(engine_for(server), asked)
    assert {r.key: r.text for r in again} == {r.key: r.text for r in rows}, "a seed decides the draw"
    assert len({r.text for r in rows}) == len(rows)


def test_what_is_done_is_not_asked_for(server: ScriptedServer) -> None:
    asked = requests()
    before = server.stats()["requests"]
    rows = rows_of(engine_for(server), asked, done={r.key for r in asked[3:]})
    assert {r.key for r in rows} == {r.key for r in asked[:3]}
    assert server.stats()["requests"] - before == 3
    assert rows_of(engine_for(server), asked, done={r.key for r in asked}) == []


def test_done_is_consulted_right_before_a_request_starts(server: ScriptedServer) -> None:
    asked = requests(30, 1)
    done: set[tuple[str, int]] = set()
    rows = []
    with_one = engine_for(server, concurrency=1)
    for commit in with_one.generate(asked, SAMPLING, done):
        rows += commit
        done |= {r.key for r in asked}  # enough: nothing more is wanted
    assert 1 <= len(rows) < 15


def test_finish_reason_length_leaves_the_thinking_open(server: ScriptedServer) -> None:
    server.control(tokens=400)
    rows = rows_of(engine_for(server), requests(3, 1))
    assert {r.finish_reason for r in rows} == {"length"} and {r.answer for r in rows} == {None}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_that_is_handed_apart_is_put_together(field: str, server: ScriptedServer) -> None:
    plain = rows_of(engine_for(server), requests())
    server.control(reasoning=field)
    assert {r.key: r.text for r in rows_of(engine_for(server), requests())} == {r.key: r.text for r in plain}
    server.control(tokens=400)
    assert {r.answer for r in rows_of(engine_for(server), requests())} == {None}


def test_a_prefill_begins_the_text(server: ScriptedServer) -> None:
    rows = rows_of(engine_for(server), requests(), prefill="<think>\n")
    assert all(r.text.startswith("<think>\n") and r.text.count("<think>") == 1 and r.answer for r in rows)
    server.control(reasoning="reasoning")
    assert {r.text for r in rows_of(engine_for(server), requests(), prefill="<think>\n")} == {r.text for r in rows}


def test_an_endpoint_without_prefill_is_named(server: ScriptedServer) -> None:
    server.control(unknown_field=["continue_final_message"])
    with pytest.raises(UserError, match="knows no prefill.*engine.api=completions"):
        rows_of(engine_for(server), requests(), prefill="<think>\n")


def test_usage_that_is_missing_is_said_once(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    server.control(no_usage=True)
    rows = rows_of(engine_for(server), requests())
    assert {r.completion_tokens for r in rows} == {0}
    assert caplog.text.count("does not say how many tokens") == 1


# --------------------------------------------------------------------------------- refused before the first request
def test_nobody_listens() -> None:
    with pytest.raises(OutsideError, match=r"127.0.0.1:9/v1: cannot connect: Connection refused"):
        engine_for("http://127.0.0.1:9/v1")


def test_wrong_model_name(server: ScriptedServer) -> None:
    with pytest.raises(UserError, match=r"does not serve 'tinny'.*did you mean tiny"):
        engine_for(server, model="tinny")


def test_wrong_key(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.control(key="sk-right")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UserError, match="refuses the key.*api_key_env") as caught:
        engine_for(server)
    assert "sk-wrong" not in str(caught.value) and "***" in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    assert len(rows_of(engine_for(server), requests())) == 20
    with pytest.raises(UserError, match="MY_KEY, which is not set"):
        engine_for(server, api_key_env="MY_KEY")


def test_two_models_or_none_need_a_name(server: ScriptedServer) -> None:
    server.control(model=["a", "b"])
    with pytest.raises(UserError, match="serves 2 models; set engine.model.*a, b"):
        engine_for(server)
    assert engine_for(server, model="b").identity() == {"name": "openai", "model": "b"}
    server.control(model=["tiny"], no_list=True)
    with pytest.raises(UserError, match="no endpoint lists its models"):
        engine_for(server)
    assert len(rows_of(engine_for(server, model="tiny"), requests())) == 20
    with pytest.raises(UserError, match="does not serve 'other'.*does not exist"):
        rows_of(engine_for(server, model="other"), requests())


def test_a_base_url_that_lacks_v1(server: ScriptedServer) -> None:
    with pytest.raises(UserError, match="ends in /v1"):
        engine_for(server.url.removesuffix("/v1"), model="tiny")
    with pytest.raises(UserError, match="is no URL"):
        engine_for("localhost:8000")


def test_max_new_tokens_beyond_the_context(server: ScriptedServer) -> None:
    server.control(context=64)
    before = server.stats()["requests"]
    with pytest.raises(UserError, match="leaves no room in the context of 64 tokens"):
        rows_of(engine_for(server), requests())
    assert server.stats()["requests"] == before


# ------------------------------------------------------------------------------------------- refusals while it runs
def test_a_prompt_that_is_refused_is_a_recorded_failure(server: ScriptedServer) -> None:
    server.control(refuse_word=["3+9?"])
    before = server.stats()["refused_400"]
    rows = rows_of(engine_for(server), requests())
    assert server.stats()["refused_400"] - before == 2, "a refusal is not repeated"
    bad = [r for r in rows if r.error]
    assert len(rows) == 20 and len(bad) == 2
    assert {(r.text, r.finish_reason, r.completion_tokens) for r in bad} == {("", "error", 0)}
    assert all("HTTP 400: the prompt was refused" in str(r.error) for r in bad)


def test_a_setting_that_no_request_gets_through_with_fails_the_run_and_no_row(server: ScriptedServer) -> None:
    server.control(unknown_field=["top_k"])
    with pytest.raises(UserError, match="20 requests were refused.*argument supplied: top_k.*nothing was recorded"):
        rows_of(engine_for(server), requests())
    with pytest.raises(UserError, match="1[0-9] requests were refused"):
        rows_of(engine_for(server, concurrency=10), requests(500, 1))


def test_extra_adds_fields_and_null_takes_one_out(server: ScriptedServer) -> None:
    server.control(unknown_field=["top_k", "foo"])
    assert not any(r.error for r in rows_of(engine_for(server, extra={"top_k": None}), requests()))
    with pytest.raises(UserError, match="foo"):
        rows_of(engine_for(server, extra={"top_k": None, "foo": 1}), requests())


def test_a_reply_withheld_is_a_recorded_failure(server: ScriptedServer) -> None:
    server.control(finish="content_filter")
    rows = rows_of(engine_for(server), requests(2, 1))
    assert {(r.text, r.finish_reason) for r in rows} == {("", "error")}
    assert "content_filter" in str(rows[0].error)


# ----------------------------------------------------------------------------------------------- nothing stays behind
def test_a_consumer_that_stops_leaves_no_thread_and_no_socket(server: ScriptedServer) -> None:
    threads, me = threading.active_count(), psutil.Process(os.getpid())
    server.control(latency=0.2)
    engine = engine_for(server, concurrency=16)
    commits = engine.generate(requests(200, 1), SAMPLING)
    next(commits)
    commits.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert not [c for c in me.net_connections("tcp") if c.raddr and c.raddr.port == server.port]
    deadline = time.monotonic() + 20
    while server.stats()["in_flight"]:
        assert time.monotonic() < deadline, "the server still works on what nobody waits for"
    commits = engine.generate(requests(200, 1), SAMPLING)
    next(commits)
    engine.close()
    assert len(list(commits)) <= 1 and threading.active_count() == threads


def test_no_more_in_flight_than_the_window(tmp_path: Path) -> None:
    with ScriptedServer(tmp_path, "--latency", "0.02") as server:
        rows_of(engine_for(server, concurrency=5), requests(50, 1))
        assert server.stats()["most"] == 5


# ---------------------------------------------------------------------------------------------- rendered in this place
@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and no weights."""
    from openr1.models.settings import TokenizerSettings
    from openr1.models.tokenizer import build_tokenizer

    folder = tmp_path_factory.mktemp("model")
    build_tokenizer(TokenizerSettings(kind="char", words=["<think>", "</think>"])).save_pretrained(folder)
    return folder


def rendering(server: ScriptedServer, folder: Path) -> HTTPEngine:
    return open_engine(OpenAISettings(name="openai", base_url=[server.url], api="completions"), folder)  # type: ignore[return-value]


def test_completions_send_the_prompt_as_the_template_renders_it(server: ScriptedServer, model_dir: Path) -> None:
    asked = requests(2, 1)
    before = len(server.answered())
    rows = rows_of(rendering(server, model_dir), asked, prefill="<think>\n")
    sent = {prompt for prompt, _ in server.answered()[before:]}
    said = {"<|im_start|>user\n" + r.messages[0]["content"] + "<|im_end|>\n<|im_start|>assistant\n" for r in asked}
    assert sent == {text + "<think>\n" for text in said}
    assert all(r.text.startswith("<think>\n") and r.text.count("<think>") == 1 and r.answer for r in rows)


def test_a_tokenizer_that_adds_a_bos_has_its_prompts_sent_as_ids(server: ScriptedServer, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    from openr1.models.chat import PAD
    from openr1.models.settings import TokenizerSettings
    from openr1.models.source import load_tokenizer
    from openr1.models.tokenizer import build_tokenizer

    made = build_tokenizer(TokenizerSettings(kind="char", words=[]))
    made.backend_tokenizer.post_processor = TemplateProcessing(  # type: ignore[attr-defined]
        single=f"{PAD} $A", special_tokens=[(PAD, made.pad_token_id)]
    )
    made.save_pretrained(tmp_path)
    tokenizer, before = load_tokenizer(tmp_path), len(server.answered())
    assert tokenizer("")["input_ids"], "the tokenizer of this test puts a token in front"
    rows_of(rendering(server, tmp_path), requests(1, 1))
    (sent, _) = server.answered()[before]
    text = "<|im_start|>user\nWhat is 0+0?<|im_end|>\n<|im_start|>assistant\n"
    assert [int(i) for i in sent.split()] == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_prompts_beyond_the_context_are_found_before_the_first_request(
    server: ScriptedServer, model_dir: Path
) -> None:
    server.control(context=86)
    before, asked = server.stats()["requests"], requests(40, 1)
    with pytest.raises(UserError, match="of 40 prompts do not fit.*beyond the context of 86"):
        rows_of(rendering(server, model_dir), asked)
    assert server.stats()["requests"] == before


def test_missing_counts_are_made_with_the_tokenizer(server: ScriptedServer, model_dir: Path) -> None:
    server.control(no_usage=True)
    assert all(r.completion_tokens > 50 for r in rows_of(rendering(server, model_dir), requests(2, 1)))


def test_completions_need_a_model(server: ScriptedServer) -> None:
    with pytest.raises(UserError, match="the stage has no model.*engine.api=chat"):
        engine_for(server, api="completions")
