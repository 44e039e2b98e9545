"""The chain as a whole: nothing is lost, order of arrival changes nothing, and the sets are what consumers read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from curate_helpers import DEFAULT_STEPS, Curated, Data, curated, prompt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openr1.curate import parquet, source
from openr1.errors import UserError
from openr1.records import STATUSES
from openr1.stages.base import read_prompts, sft_rows

GOOD = "<think>one and one</think>\n<answer>2</answer>"
WORDS = ["one", "two", "three", "and", "plus", "是", "3", "=", "so"]

EVERY_STEP: list[dict[str, Any]] = [
    {"step": "graded"},
    {"step": "correct"},
    {"step": "format", "form": "native"},
    {"step": "language", "language": "en", "by": "script"},
    {"step": "language", "language": "en", "by": "script", "of": "question"},
    {"step": "length", "max_tokens": 9},
    {"step": "length", "of": "question", "max_chars": 40},
    {"step": "repetition", "ngram_size": 2, "max_share": 0.3},
    {"step": "same_text"},
    {"step": "select", "per_prompt": 2, "by": "diverse"},
    {"step": "exact_dedup"},
    {"step": "near_dedup", "threshold": 0.7},
    {"step": "pass_rate", "low": 0.2, "high": 0.9},
    {"step": "mix", "weights": {"sum": 1, "product": 2}, "others": "keep"},
    {"step": "split", "parts": {"test": 0.3}},
]


def random_data(seed: int, prompts: int = 24) -> Data:
    """Prompts of three tasks, some of them alike, with up to five completions of every status."""
    rng = random.Random(seed)
    data = Data()
    for n in range(prompts):
        question = " ".join(rng.choices(WORDS, k=rng.randint(4, 14))) + (f" {n}?" if rng.random() < 0.7 else "")
        one = prompt(question, task=rng.choice(["sum", "product", "other"]))
        if one.prompt_id in {p.prompt_id for p in data.prompts}:
            continue
        answers = []
        for _ in range(rng.randint(0, 5)):
            text = f"<think>{' '.join(rng.choices(WORDS, k=rng.randint(1, 8)))}</think>\n2"
            finish = rng.choice(["stop", "stop", "stop", "length", "error"])
            answers.append((text, rng.choice([*STATUSES, "correct", "correct", "correct"]), finish))
        data.add(one, *answers)
    data.add(prompt("sure to be here, of sum"), (GOOD, "correct"), (GOOD, "wrong"))
    data.add(prompt("sure to be there, a product", task="product"), (GOOD + "\n", "correct"), ("no", "wrong"))
    return data


def account_holds(data: Data, out: Curated) -> None:
    """Every completion is in an SFT set or dropped, every prompt in an RL set or dropped; the funnel adds up."""
    outputs = list(out.result.outputs)
    kept = [key for name in outputs if name.startswith("sft") for key in out.chosen(name)]
    dropped = [(r["prompt_id"], r["sample_index"]) for r in out.rows("dropped") if r["unit"] == "completion"]
    assert sorted(kept + dropped) == sorted(c.key for c in data.completions)
    rl = [r["prompt_id"] for name in outputs if name.startswith("rl") for r in out.rows(name)]
    rl_dropped = [r["prompt_id"] for r in out.rows("dropped") if r["unit"] == "prompt"]
    assert sorted(rl + rl_dropped) == sorted(p.prompt_id for p in data.prompts)
    assert all(r["reason"] and r["step"] for r in out.rows("dropped"))

    left = {"completion": len(data.completions), "prompt": len(data.prompts)}
    for line in out.result.results["funnel"]:
        assert line["in"] == left[line["unit"]]
        assert line["in"] == line["out"] + sum(line["dropped"].values())
        left[line["unit"]] = line["out"]
    assert left == {"completion": len(kept), "prompt": len(rl)}
    counts = out.result.counts
    assert counts["in"] == len(data.completions) and counts["out"] == len(kept) and counts["rl"] == len(rl)
    assert sum(counts["dropped"].values()) == len(dropped) + len(rl_dropped)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(EVERY_STEP), st.integers(1, len(EVERY_STEP)), st.integers(0, 10**6))
def test_nothing_is_lost_whatever_the_steps_and_their_order(
    tmp_path: Path, steps: list[dict[str, Any]], n: int, seed: int
) -> None:
    data = random_data(seed)
    try:
        out = curated(tmp_path, data, steps[:n], seed=seed, valid=False)
    except UserError as e:  # a small draw may leave a source of the mix, or everything, empty
        assert "is left" in str(e)
        return
    account_holds(data, out)


def test_order_of_arrival_and_size_of_buckets_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data(3, prompts=60)
    steps = [s for s in EVERY_STEP if s["step"] not in ("select", "mix")]
    steps += [{"step": "select", "per_prompt": 2, "by": "random"}]
    whole = curated(tmp_path / "a", data, steps, valid=False).files()
    random.Random(1).shuffle(data.completions)
    for module, name in ((source, "BUCKET_ROWS"), (source, "BATCH_ROWS"), (parquet, "SHUFFLE_ROWS")):
        monkeypatch.setattr(module, name, 7)
    pieces = curated(tmp_path / "b", data, steps, valid=False, commits=11)
    account_holds(data, pieces)
    assert pieces.files() == whole


def test_rows_of_many_files_and_groups_are_those_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 5)
    data = Data()
    for n in range(23):
        data.add(prompt(f"what is {n}?"), (GOOD, "correct"), (f"no {n}", "wrong"))
    out = curated(tmp_path, data, DEFAULT_STEPS)
    assert len(list((out.folder / "sft").glob("*.parquet"))) == 5
    assert [r["prompt_id"] for r in out.rows("rl")] == [p.prompt_id for p in data.prompts]
    account_holds(data, out)


def test_the_sft_set_is_a_seeded_shuffle_of_the_prompts_in_their_order(tmp_path: Path) -> None:
    data = Data()
    for n in range(40):
        data.add(prompt(f"{n} + 1"), (GOOD.replace("one", "one two three"), "correct"), (GOOD, "correct"))
    out = curated(tmp_path, data, DEFAULT_STEPS, seed=7)
    expected = [(p.prompt_id, i) for p in data.prompts for i in (1, 0)]  # the shorter first
    random.Random(7).shuffle(expected)
    assert out.chosen() == expected


def test_the_sets_are_what_training_and_generation_read(tmp_path: Path) -> None:
    data = Data()
    one = data.add(prompt("1 + 1"), (GOOD, "correct"), ("2", "wrong"))
    out = curated(tmp_path, data, DEFAULT_STEPS)
    assert sft_rows(out.folder / "sft") == [
        {
            "prompt_id": one.prompt_id,
            "prompt": one.messages,
            "completion": [{"role": "assistant", "content": GOOD}],
        }
    ]
    assert read_prompts(out.folder / "rl") == [one]
    assert out.rows("rl")[0]["pass_rate"] == 0.5


def test_columns_are_those_of_open_r1_where_it_has_them(tmp_path: Path) -> None:
    data = Data()
    one = data.add(
        prompt("1 + 1", problem_type="Algebra", source="olympiads", uuid="u-1"),
        ("<think>no end", "truncated", "length"),
        (GOOD, "correct"),
        ("x", "bad_gold"),
        (GOOD + " ", "correct"),
    )
    data.add(prompt("1 + 2", verifier="exact"), (GOOD, "correct"))
    out = curated(tmp_path, data, [*DEFAULT_STEPS[:4], {"step": "select", "per_prompt": 1}])
    row = out.rows("all")[0]
    assert row["generations"] == ["<think>no end", GOOD, "x", GOOD + " "]
    assert row["finish_reasons"] == ["length", "stop", "stop", "stop"]
    assert row["is_reasoning_complete"] == [False, True, True, True]
    assert row["correctness_math_verify"] == [False, True, None, True]
    assert row["statuses"] == ["truncated", "correct", "bad_gold", "correct"]
    assert row["dropped_by"] == ["correct", None, "graded", "select"]
    assert (row["correctness_count"], row["pass_rate"], row["in_rl"], row["split"]) == (2, 2 / 3, True, "train")
    assert (row["problem"], row["answer"], row["problem_type"]) == ("1 + 1", "2", "Algebra")
    assert (row["source"], row["uuid"]) == ("olympiads", "u-1")
    assert row["messages"] == [*one.messages, {"role": "assistant", "content": GOOD}]
    assert out.rows("all")[1]["correctness_math_verify"] == [None]  # another verifier judged
    assert [r["uuid"] for r in out.rows("sft") if r["prompt_id"] == one.prompt_id] == ["u-1"]


def test_prompts_alone_are_curated_before_anything_is_generated(tmp_path: Path) -> None:
    data = Data(prompts=[prompt("What is 1 + 1?"), prompt("what is  1+1"), prompt("What is 1 + 3?")])
    out = curated(tmp_path, data, [{"step": "exact_dedup"}], inputs=["data"])
    assert len(out.rows("rl")) == 2 and out.rows("sft") == []
    assert all(r["pass_rate"] is None for r in out.rows("rl"))
    account_holds(data, out)


def test_completions_without_a_verdict_are_refused(tmp_path: Path) -> None:
    data = Data()
    one = data.add(prompt("1 + 1"), (GOOD, "correct"), ("2", "wrong"))
    del data.statuses[one.prompt_id, 1]
    with pytest.raises(UserError, match=r"^curate: 1 of 2 completions have no verdict; run verify first$"):
        curated(tmp_path, data, DEFAULT_STEPS)


def test_nothing_left_is_refused_with_the_reasons(tmp_path: Path) -> None:
    data = Data()
    data.add(prompt("1 + 1"), ("2", "bad_gold"))
    with pytest.raises(UserError, match=r"^curate: nothing is left of 1 completions \(.*not graded: bad_gold: 1"):
        curated(tmp_path, data, DEFAULT_STEPS)


def test_a_set_without_rows_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = Data()
    data.add(prompt("1 + 1"), ("2", "correct"), ("3", "wrong"))
    with caplog.at_level("WARNING", logger="openr1"):
        out = curated(tmp_path, data, [{"step": "length", "min_tokens": 10_000}])
    assert out.rows("sft") == [] and len(out.rows("rl")) == 1
    assert "curate: sft is empty: none of 2 completions is left (under 10,000 tokens: 2)" in caplog.messages
    assert not [m for m in caplog.messages if "rl is empty" in m]


def test_empty_inputs_are_nothing_left(tmp_path: Path) -> None:
    for name, data in (("none", Data()), ("unanswered", Data(prompts=[prompt("1 + 1")]))):
        with pytest.raises(UserError, match=r"^curate: nothing is left of 0 completions"):
            curated(tmp_path / name, data, DEFAULT_STEPS)


def test_completions_of_other_prompts_are_left_alone(tmp_path: Path) -> None:
    data = Data()
    data.add(prompt("1 + 1"), (GOOD, "correct"))
    data.add(prompt("1 + 2"), (GOOD, "correct"))
    data.prompts.pop()
    assert curated(tmp_path, data, DEFAULT_STEPS).result.counts["in"] == 1


def test_a_prompt_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    data = Data()
    one = data.add(prompt("1 + 1"), (GOOD, "correct"))
    data.prompts.append(one)
    out = curated(tmp_path, data, DEFAULT_STEPS)
    assert len(out.rows("sft")) == len(out.rows("rl")) == len(out.rows("all")) == 1
    assert out.reasons("prompt") == {one.prompt_id: "the same prompt again"}
    account_holds(data, out)
