from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import BATCH, PROMPTS, SAMPLING, make_model, open_store

from openr1.engines import collect, make_requests, open_engine
from openr1.engines.settings import SamplingSettings, TransformersSettings
from openr1.engines.transformers import TransformersEngine
from openr1.errors import UserError
from openr1.models.chat import render
from openr1.records import Completion, Prompt


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def engine(folder: Path) -> Any:
    return open_engine(TransformersSettings(name="transformers", batch_size=BATCH, device="cpu"), folder)


def answers(engine: Any, requests: Any, sampling: SamplingSettings = SAMPLING, **more: Any) -> list[Completion]:
    return [c for commit in engine.generate(requests, sampling, **more) for c in commit]


def content(rows: list[Completion]) -> list[tuple[Any, ...]]:
    return [(c.key, c.text, c.finish_reason, c.prompt_tokens, c.completion_tokens, c.seed) for c in rows]


def test_greedy_agrees_with_transformers_generate(engine: TransformersEngine) -> None:
    sampling = SamplingSettings(temperature=0, max_new_tokens=12)
    rows = answers(engine, make_requests(PROMPTS[:BATCH], 1, 0), sampling)
    model, tokenizer = engine.model, engine.tokenizer
    for prompt, row in zip(PROMPTS, rows, strict=False):
        ids = tokenizer(render(tokenizer, prompt.messages), return_tensors="pt", add_special_tokens=False)
        whole = model.generate(
            **{k: v for k, v in ids.items() if k != "token_type_ids"}, max_new_tokens=12, do_sample=False
        )
        new = whole[0, ids["input_ids"].shape[1] :]
        assert row.text == tokenizer.decode(new, skip_special_tokens=True)
        assert row.prompt_tokens == ids["input_ids"].shape[1] and row.completion_tokens == len(new)


def test_the_same_requests_give_the_same_bytes(engine: Any, folder: Path) -> None:
    requests = make_requests(PROMPTS, 2, 0)
    first = content(answers(engine, requests))
    again = content(
        answers(open_engine(TransformersSettings(name="transformers", batch_size=BATCH), folder), requests)
    )
    assert first == again
    assert [row[0] for row in first] == [r.key for r in requests]
    assert first != content(answers(engine, make_requests(PROMPTS, 2, 1)))


def test_a_row_depends_on_its_seed_and_prompt_not_on_who_its_neighbours_are(engine: Any) -> None:
    same_width = [
        replace(p, messages=[{"role": "user", "content": f"{i}+{i}"}]) for i, p in enumerate(PROMPTS[:BATCH], 10)
    ]
    alone = make_requests(same_width, 1, 0)
    whole = {c.key: c.text for c in answers(engine, alone)}
    turned = {c.key: c.text for c in answers(engine, alone[::-1])}
    assert whole == turned
    # other neighbours move the last bits of the logits at most: hardly any draw falls on such an edge
    mixed = {
        c.key: c.text for c in answers(engine, make_requests(same_width[4:] + PROMPTS[BATCH:] + same_width[:4], 1, 0))
    }
    assert sum(mixed[k] == whole[k] for k in whole) >= len(whole) - 1


def test_samples_of_one_prompt_differ(engine: Any) -> None:
    requests = make_requests(PROMPTS[:2], 8, 0)
    assert len({r.seed for r in requests}) == 16
    rows = answers(engine, requests)
    for prompt in PROMPTS[:2]:
        assert len({c.text for c in rows if c.prompt_id == prompt.prompt_id}) == 8


def test_every_eos_of_the_generation_config_ends_a_reply(engine: TransformersEngine, folder: Path) -> None:
    greedy = SamplingSettings(temperature=0, max_new_tokens=10)
    requests = make_requests(PROMPTS[:3], 1, 0)
    before = answers(engine, requests, greedy)
    assert {c.finish_reason for c in before} == {"length"} and {c.completion_tokens for c in before} == {10}
    tokens = engine.tokenizer(before[0].text, add_special_tokens=False)["input_ids"]
    stop = tokens[4]
    engine.model.generation_config.eos_token_id = [engine.tokenizer.eos_token_id, stop]
    other = TransformersEngine(engine.model, engine.tokenizer, BATCH)
    for row, old in zip(answers(other, requests, greedy), before, strict=True):
        ids = engine.tokenizer(old.text, add_special_tokens=False)["input_ids"]
        if stop in ids:
            cut = ids.index(stop)
            assert row.finish_reason == "stop" and row.completion_tokens == cut + 1
            assert row.text == engine.tokenizer.decode(ids[:cut])
        else:
            assert row.text == old.text and row.finish_reason == "length"
    assert answers(other, requests, greedy)[0].finish_reason == "stop"


def test_rows_that_end_early_leave_the_others_as_they_are(engine: TransformersEngine) -> None:
    """Sampled replies end at different steps, so the running batch shrinks; every reply is still its own."""
    often = SamplingSettings(temperature=1.5, max_new_tokens=60)
    single = TransformersEngine(engine.model, engine.tokenizer, 1)
    requests = make_requests(PROMPTS[:16], 2, 0)
    together = TransformersEngine(engine.model, engine.tokenizer, 32)
    a, b = answers(together, requests, often), answers(single, requests, often)
    assert {c.finish_reason for c in a} == {"stop", "length"}
    assert sum(x.text == y.text for x, y in zip(a, b, strict=True)) >= 31


def test_prefill_is_part_of_the_text_and_of_the_prompt(engine: Any) -> None:
    greedy = SamplingSettings(temperature=0, max_new_tokens=5)
    plain = answers(engine, make_requests(PROMPTS[:2], 1, 0), greedy)
    made = answers(engine, make_requests(PROMPTS[:2], 1, 0), greedy, prefill="<think>")
    for a, b in zip(plain, made, strict=True):
        assert b.text.startswith("<think>") and b.prompt_tokens == a.prompt_tokens + 1 and b.completion_tokens == 5


# ---------------------------------------------------------------------------------------------------- before a request
def test_what_is_refused_before_the_first_request(engine: TransformersEngine) -> None:
    def ask(text: str, tokens: int = 8) -> None:
        prompt = Prompt(task="t", messages=[{"role": "user", "content": text}], answer="1", verifier="math")
        engine.generate(make_requests([prompt], 1, 0), SamplingSettings(temperature=0, max_new_tokens=tokens))

    ask("1+1")
    with pytest.raises(
        UserError, match=r"1 of 1 prompts do not fit: .* beyond the model's context of 128; lower .* to \d"
    ):
        ask("1" * 50, tokens=100)
    with pytest.raises(UserError, match="shorten the prompts"):
        ask("1" * 500)
    with pytest.raises(UserError, match="no text in a user turn"):
        ask("  ")
    template = engine.tokenizer.chat_template
    engine.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="no generation prompt"):
        ask("1+1")
    engine.tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        ask("1+1")
    engine.tokenizer.chat_template = template
    twice = make_requests(PROMPTS[:1], 1, 0) * 2
    with pytest.raises(UserError, match="2 requests share 1 keys"):
        engine.generate(twice, SAMPLING)


def test_a_gpu_that_is_not_there(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="no GPU is visible"):
        open_engine(TransformersSettings(name="transformers", batch_size=1, device="cuda"), folder)


# --------------------------------------------------------------------------------------------------------- collect
def test_collect_asks_for_what_is_missing_only(engine: Any, tmp_path: Path) -> None:
    assert make_requests(PROMPTS, 4, 3)[: 2 * len(PROMPTS)] == make_requests(PROMPTS, 2, 3)
    assert len(make_requests(PROMPTS + PROMPTS[:3], 1, 0)) == len(PROMPTS)
    commits: list[list[Completion]] = []
    with open_store(tmp_path / "s") as store:
        tokens = collect(engine, make_requests(PROMPTS, 2, 3), SAMPLING, store, on_commit=commits.append)
        assert tokens["generated"] == sum(c.completion_tokens for c in store.rows()) > 0
        assert tokens["prompt"] == sum(c.prompt_tokens for c in store.rows())
        before = content(store.rows())
        assert collect(engine, make_requests(PROMPTS, 2, 3), SAMPLING, store) == {"prompt": 0, "generated": 0}
        commits.clear()
        collect(engine, make_requests(PROMPTS, 4, 3), SAMPLING, store, on_commit=commits.append)
        asked = {c.key for commit in commits for c in commit}
        assert asked == {(p.prompt_id, i) for p in PROMPTS for i in (2, 3)} and len(store) == 4 * len(PROMPTS)
        assert set(before) < set(content(store.rows()))
        grown = {c.key: c.text for c in store.rows()}
    with open_store(tmp_path / "straight") as store:
        collect(engine, make_requests(PROMPTS, 4, 3), SAMPLING, store)
        straight = {c.key: c.text for c in store.rows()}
    new = [k for k in straight if k[1] >= 2]
    assert [grown[k] for k in new] == [
        straight[k] for k in new
    ]  # a batch is what the recipe says, not what is missing


def test_killed_and_resumed_gives_the_rows_of_an_uninterrupted_run(folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("tiny_engine.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)  # rows in the store after each kill
    assert len(sizes) == 5 and sizes == sorted(set(sizes)) and sizes[0] > 0 and sizes[-1] < 6 * len(PROMPTS)
    a, b = open_store(tmp_path / "whole").load(), open_store(tmp_path / "killed").load()
    assert len(a) == 6 * len(PROMPTS) and a.content_hash() == b.content_hash()
