"""The composed reward: weights, gates, masking, errors that name the completion, the first-batch diagnosis."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from openr1.errors import UserError
from openr1.records import Prompt
from openr1.rewards import ComposedReward, PartSettings, RewardBatch, RewardSettings, diagnose, problems

GOOD = r"<think>two and two</think><answer>\boxed{4}</answer>"
BAD_FORM = r"\boxed{4}"
WRONG = r"<think>two and two</think><answer>\boxed{5}</answer>"


def make(completions: list[str], golds: list[str] | None = None) -> RewardBatch:
    prompts = [Prompt("t", [{"role": "user", "content": "q"}], g, "math") for g in golds or ["4"] * len(completions)]
    return RewardBatch(completions, prompts, ["stop"] * len(completions), [5] * len(completions), 50, len(completions))


def compose(**parts: PartSettings) -> ComposedReward:
    return ComposedReward(RewardSettings(parts=parts))


def test_total_is_the_weighted_sum() -> None:
    result = compose(accuracy=PartSettings(weight=1.0), format=PartSettings(weight=0.2))(make([GOOD, BAD_FORM, WRONG]))
    assert result.totals == pytest.approx([1.2, 1.0, 0.2])
    assert result.parts == {"accuracy": [1.0, 1.0, 0.0], "format": [1.0, 0.0, 1.0]}
    assert [v.status for v in result.verdicts if v] == ["correct", "correct", "wrong"]


def test_a_masked_part_masks_the_row_and_no_other() -> None:
    """Law 1: accuracy None with format 1.0 must not train as if accuracy were 0."""
    reward = compose(accuracy=PartSettings(), format=PartSettings(weight=0.2))
    result = reward(make([GOOD, GOOD, WRONG, WRONG], ["4", "???", "4", "4"]))
    assert result.totals == pytest.approx([1.2, None, 0.2, 0.2])
    assert result.parts["format"] == [1.0, 1.0, 1.0, 1.0]


def test_a_gate_closes_the_other_parts() -> None:
    reward = compose(accuracy=PartSettings(), format=PartSettings(weight=0.5, gate=True))
    assert reward(make([GOOD, BAD_FORM, WRONG])).totals == pytest.approx([1.5, 0.0, 0.5])


def test_one_grading_serves_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    import openr1.verify as verify

    calls = []
    honest = verify.grade
    monkeypatch.setattr(verify, "grade", lambda *a, **k: calls.append(1) or honest(*a, **k))
    compose(accuracy=PartSettings(), cosine=PartSettings(), length=PartSettings())(make([GOOD, WRONG]))
    assert len(calls) == 1


def halves(batch: RewardBatch, *, factor: float = 0.5) -> list[float | None]:
    return [factor] * len(batch)


def raises_on_wrong(batch: RewardBatch) -> list[float | None]:
    if any("5" in text for text in batch.completions):
        raise KeyError("no five")
    return [0.0] * len(batch)


def too_short(batch: RewardBatch) -> list[float | None]:
    return [0.0]


def not_a_number(batch: RewardBatch) -> list[float | None]:
    return [float("nan")] * len(batch)


def test_a_users_function_by_import_path() -> None:
    reward = compose(mine=PartSettings(function=f"{__name__}:halves", params={"factor": 0.25}, weight=4.0))
    assert reward(make([GOOD, WRONG])).totals == [1.0, 1.0]


def test_a_reward_that_raises_names_itself_the_error_and_the_completion() -> None:
    with pytest.raises(UserError, match=r"'mine' raised KeyError: 'no five'; row 1, completion .*boxed\{5\}"):
        compose(mine=PartSettings(function=f"{__name__}:raises_on_wrong"))(make([GOOD, WRONG]))


def test_wrong_length_and_nan_are_refused() -> None:
    with pytest.raises(UserError, match="returned 1 values for 2 completions"):
        compose(mine=PartSettings(function=f"{__name__}:too_short"))(make([GOOD, WRONG]))
    with pytest.raises(UserError, match="returned nan for the completion"):
        compose(mine=PartSettings(function=f"{__name__}:not_a_number"))(make([GOOD]))


def test_a_batch_of_uneven_columns_is_refused() -> None:
    batch = make([GOOD, WRONG])
    batch.token_counts = [1]
    batch.group_size = 3
    with pytest.raises(UserError) as caught:
        compose(format=PartSettings())(batch)
    assert len(caught.value.problems) == 2


def test_problems_are_all_found_with_near_names() -> None:
    settings = RewardSettings(
        parts={
            "acuracy": PartSettings(),
            "format": PartSettings(params={"mod": "strict"}),
            "soft_overlong": PartSettings(),
            "mine": PartSettings(function="no_such_module:f"),
            "cosine": PartSettings(weight=float("nan")),
        }
    )
    found = "\n".join(problems(settings))
    for expected in ("did you mean accuracy?", "did you mean mode?", "needs the parameter 'cache'", "no_such_module"):
        assert expected in found
    assert "finite" in found and len(problems(settings)) == 5
    with pytest.raises(UserError, match="acuracy"):
        ComposedReward(settings)
    assert problems(RewardSettings(parts={})) and problems(RewardSettings(parts={"format": PartSettings(weight=0)}))
    assert problems(RewardSettings()) == []


@pytest.mark.parametrize(
    ("label", "params", "said"),
    [
        ("format", {"mode": "strcit"}, "did you mean strict?"),
        ("format", {"native": "yes"}, "'yes'"),
        ("repetition", {"ngram_size": "3"}, "'3'"),
        ("repetition", {"ngram_size": 2.5}, "2.5"),
        ("cosine", {"max_tokens": [1]}, "[1]"),
    ],
)
def test_values_are_checked_against_the_functions_annotations(
    label: str, params: dict[str, object], said: str
) -> None:
    (line,) = problems(RewardSettings(parts={label: PartSettings(params=params)}))
    assert repr(next(iter(params))) in line and said in line


def annotated(batch: RewardBatch, *, words: tuple[str, ...] = (), free=None) -> list[float | None]:  # type: ignore[no-untyped-def]
    return [1.0] * len(batch)


def test_values_that_fit_are_no_problem() -> None:
    parts = {
        "format": PartSettings(params={"mode": "graded", "native": True}),
        "cosine": PartSettings(params={"max_tokens": None, "min_value_wrong": -1}),
        "mine": PartSettings(function=f"{__name__}:annotated", params={"words": ["a"], "free": 3}),
        "halves": PartSettings(function=f"{__name__}:halves", params={"factor": 1}),
    }
    assert problems(RewardSettings(parts=parts)) == []


def test_the_first_batch_diagnosis_names_a_constant_reward_with_three_completions() -> None:
    batch = make([WRONG, WRONG.replace("5", "6"), WRONG.replace("5", "7"), WRONG.replace("5", "8")])
    result = compose(accuracy=PartSettings(), repetition=PartSettings())(batch)
    lines = diagnose(result, batch)
    accuracy = next(line for line in lines if "'accuracy'" in line)
    assert "is 0 for all 4 completions" in accuracy and accuracy.count("<answer>") == 3
    varied = make([GOOD, WRONG])
    assert diagnose(compose(accuracy=PartSettings())(varied), varied) == []
    masked = make([GOOD, WRONG], ["???", "4"])
    assert "1 of 2 rows are masked" in "\n".join(diagnose(compose(accuracy=PartSettings())(masked), masked))


def test_the_room_imports_without_torch() -> None:
    code = (
        "import sys; from openr1.rewards import RewardSettings, problems; problems(RewardSettings());"
        "import json; print(json.dumps([m for m in ('torch', 'trl', 'transformers', 'sympy') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
