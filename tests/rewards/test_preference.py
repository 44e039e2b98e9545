"""Preference rewards: what of a completion is scored, by a real classifier and a judge on loopback; failures mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_server import ScriptedServer
from pydantic import ValidationError

from openr1.errors import UserError
from openr1.records import Prompt, PromptType
from openr1.rewards import ComposedReward, PartSettings, RewardBatch, RewardSettings, diagnose, problems

MESSAGES = [{"role": "user", "content": "how"}]
TEXTS = ["<think>a b</think><answer>yes</answer>", "<think>longer thought</think>no, never", "<think>open"]
ANSWERS = ["yes", "no, never", ""]


def batch_of(texts: list[str], kinds: list[PromptType], step: int | None = None, group: int = 1) -> RewardBatch:
    prompts = [Prompt("t", MESSAGES, "4" if kind == "reasoning" else None, "math").of_type(kind) for kind in kinds]
    n = len(texts)
    return RewardBatch(texts, prompts, ["stop"] * n, [5] * n, 50, group, step=step)


def general(texts: list[str]) -> RewardBatch:
    return batch_of(texts, ["general"] * len(texts))


def part(**given: Any) -> PartSettings:
    return PartSettings.model_validate(given)


def compose(**parts: PartSettings) -> ComposedReward:
    return ComposedReward(RewardSettings(parts=parts))


def scores_of(folder: Path, texts: list[str]) -> list[float]:
    """What the classifier says of each reply by itself."""
    import torch
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    found = []
    for text in texts:
        rendered = f"<|im_start|>user\nhow<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>"
        ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            found.append(float(model(**ids).logits[0, 0]))
    return found


# --------------------------------------------------------------------------------------------------------- classifier
def test_helpful_sees_the_answer_only_and_harmless_sees_all(classifier: Path) -> None:
    scorer = {"kind": "classifier", "source": str(classifier), "batch_size": 2}
    result = compose(helpful=part(scorer=scorer), harmless=part(scorer=scorer, weight=0.5))(general(TEXTS))
    helpful, harmless = scores_of(classifier, ANSWERS), scores_of(classifier, TEXTS)
    assert result.parts["helpful"] == pytest.approx(helpful, abs=1e-5)
    assert result.parts["harmless"] == pytest.approx(harmless, abs=1e-5)
    assert len({round(x, 4) for x in helpful + harmless}) == 6
    assert result.totals == pytest.approx([a + 0.5 * b for a, b in zip(helpful, harmless, strict=True)], abs=1e-5)
    assert result.verdicts == [None] * 3


def test_a_thought_does_not_move_helpfulness(classifier: Path) -> None:
    reward = compose(helpful=part(scorer={"kind": "classifier", "source": str(classifier)}))
    one, other = reward(general(["<think>x</think>fine", "<think>yyyyyy</think>fine"])).totals
    assert one == other


def test_classes_are_named_and_probabilities_lie_between_0_and_1(make_classifier: Callable[..., Path]) -> None:
    folder = make_classifier(labels=2)
    scorer: dict[str, Any] = {"kind": "classifier", "source": str(folder), "score": "probability"}
    found = {
        label: compose(harmless=part(scorer=scorer | {"label": label}))(general(TEXTS)).totals
        for label in ("safe", "unsafe", 1)
    }
    assert found["safe"] == found[1]
    assert [a + b for a, b in zip(found["safe"], found["unsafe"], strict=True)] == pytest.approx([1.0] * 3)
    with pytest.raises(UserError, match="name the one to reward as scorer.label: unsafe, safe"):
        compose(harmless=part(scorer=scorer))
    with pytest.raises(UserError, match="has no class 'saef'; did you mean safe"):
        compose(harmless=part(scorer=scorer | {"label": "saef"}))


def test_no_template_and_no_padding_token_score_row_by_row(make_classifier: Callable[..., Path]) -> None:
    folder = make_classifier(template=False, pad=False)
    scorer = {"kind": "classifier", "source": str(folder), "batch_size": 8}
    reward = compose(harmless=part(scorer=scorer))
    together = reward(general(TEXTS)).totals
    assert together == [reward(general([text])).totals[0] for text in TEXTS]
    assert None not in together


def test_a_reply_over_the_limit_keeps_its_end(classifier: Path) -> None:
    scorer = {"kind": "classifier", "source": str(classifier), "max_length": 8}  # "the end" and the end of the turn
    one, other = compose(harmless=part(scorer=scorer))(general(["x" * 40 + "the end", "y" * 60 + "the end"])).totals
    assert one is not None and one == pytest.approx(other)


def test_what_is_no_classifier_is_refused_in_one_line(classifier: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = tmp_path / "causal"
    shutil.copytree(classifier, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen2ForCausalLM"]}))
    with pytest.raises(UserError, match="Qwen2ForCausalLM is no sequence classifier; choose one whose class ends in"):
        compose(helpful=part(scorer={"kind": "classifier", "source": str(folder)}))
    with pytest.raises(UserError, match="is no folder here and no Hub id"):
        compose(helpful=part(scorer={"kind": "classifier", "source": str(tmp_path / "nothing")}))


def test_a_head_that_was_never_saved_is_refused_and_not_filled_with_noise(classifier: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "headless"
    shutil.copytree(classifier, folder)
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("score")}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"has no weights for score\.weight"):
        compose(helpful=part(scorer={"kind": "classifier", "source": str(folder)}))(general(TEXTS))


def test_a_model_that_fails_masks_its_rows_and_no_others(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from openr1.models.classifier import Classifier

    honest = Classifier._forward

    def forward(self: Classifier, rows: Any) -> list[float]:
        if any(len(row["input_ids"]) > 60 for row in rows):
            raise RuntimeError("CUDA out of memory")
        values = honest(self, rows)
        return [float("nan") if len(row["input_ids"]) > 50 else v for row, v in zip(rows, values, strict=True)]

    monkeypatch.setattr(Classifier, "_forward", forward)
    scorer = {"kind": "classifier", "source": str(classifier), "batch_size": 1}
    texts = ["short", "x" * 90, "y" * 40]
    result = compose(harmless=part(scorer=scorer), format=part(weight=0.2))(general(texts))
    assert result.totals[0] is not None and result.totals[1:] == [None, None]
    assert result.parts["format"] == [0.0] * 3
    assert "no score for 2 rows, which are masked" in caplog.text


# -------------------------------------------------------------------------------------------------------------- judge
def test_a_judges_rating_is_a_reward_and_its_failure_is_masked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(tmp_path, "--say", "Score: 7/10") as server:
        scorer = {"kind": "judge", "url": server.url, "model": "tiny", "retries": 0, "timeout": 5}
        reward = compose(helpful=part(scorer=scorer))
        assert reward(general(TEXTS)).totals == pytest.approx([0.7, 0.7, 0.0])
        asked = [prompt for prompt, _ in server.answered()]
        assert len(asked) == 2  # an empty answer is the worst, nobody needs to be asked
        assert all("how helpful" in prompt for prompt in asked)
        assert not any("thought" in prompt.split("conversation")[-1] for prompt in asked)
        compose(harmless=part(scorer=scorer))(general(TEXTS[1:2]))
        assert "longer thought" in server.answered()[-1][0]
        for broken in ({"say": "I think it is 7 or 8"}, {"say": "11"}, {"status": 500}):
            server.control(say="7", status=None)
            server.control(**broken)
            assert reward(general(TEXTS)).totals == [None, None, 0.0]
        assert "no score for 2 rows, which are masked" in caplog.text
    assert reward(general(TEXTS[:1])).totals == [None]  # nobody answers any more


def test_half_of_the_requests_fail_and_only_their_rows_are_masked(tmp_path: Path) -> None:
    with ScriptedServer(tmp_path, "--say", "10", "--p-500", "0.5") as server:
        scorer = {"kind": "judge", "url": server.url, "model": "tiny", "retries": 0, "timeout": 5}
        totals = compose(harmless=part(scorer=scorer))(general(["fine"] * 40)).totals
        failed = server.stats()["500"]
        assert 0 < failed < 40
        assert totals.count(None) == failed and totals.count(1.0) == 40 - failed


# ------------------------------------------------------------------------------------------- types of prompts, steps
def test_each_type_of_prompt_has_its_own_parts(classifier: Path) -> None:
    scorer = {"kind": "classifier", "source": str(classifier)}
    reward = compose(
        accuracy=part(), format=part(weight=0.2), helpful=part(scorer=scorer), harmless=part(scorer=scorer)
    )
    right = r"<think>2+2</think><answer>\boxed{4}</answer>"
    kinds: list[PromptType] = ["reasoning", "general", "harmlessness"]
    result = reward(batch_of([right] * 3, kinds))
    (h,), (a,) = scores_of(classifier, [right]), scores_of(classifier, [r"\boxed{4}"])
    assert result.parts["accuracy"] == [1.0, None, None] and result.parts["format"] == [1.0] * 3
    assert result.parts["helpful"] == [None, pytest.approx(a, abs=1e-5), None]
    assert result.parts["harmless"] == [None, pytest.approx(h, abs=1e-5), pytest.approx(h, abs=1e-5)]
    assert result.totals == pytest.approx([1.2, 0.2 + a + h, 0.2 + h], abs=1e-5)
    assert [v and v.status for v in result.verdicts] == ["correct", None, None]


def raising(batch: RewardBatch) -> list[float | None]:
    raise AssertionError("it must not be asked before its step")


def test_before_its_step_a_part_is_not_even_computed() -> None:
    reward = compose(format=part(), late=part(function=f"{__name__}:raising", from_step=5))
    result = reward(batch_of(TEXTS, ["reasoning"] * 3, step=4))
    assert result.totals == [1.0, 0.0, 0.0] and result.parts["late"] == [None] * 3
    with pytest.raises(UserError, match="'late' raised AssertionError"):
        reward(batch_of(TEXTS, ["reasoning"] * 3, step=5))
    with pytest.raises(UserError, match="'late' raised AssertionError"):
        reward(batch_of(TEXTS, ["reasoning"] * 3))


def test_rows_that_no_part_is_for_are_masked_and_named() -> None:
    reward, batch = compose(accuracy=part()), batch_of([r"\boxed{4}"] * 4, ["reasoning"] * 2 + ["general"] * 2)
    result = reward(batch)
    assert result.totals == [1.0, 1.0, None, None]
    assert any("prompts of type general" in line for line in diagnose(result, batch))


def test_scorers_are_asked_for_and_refused_where_they_do_nothing(classifier: Path) -> None:
    scorer = {"kind": "classifier", "source": str(classifier)}
    (line,) = problems(RewardSettings(parts={"helpful": part()}))
    assert "needs a scorer: {kind: classifier, source: …} or {kind: judge" in line
    (line,) = problems(RewardSettings(parts={"format": part(scorer=scorer)}))
    assert "asks nobody; leave its scorer out" in line
    for wrong in ({"scorer": {"kind": "clasifier"}}, {"from_step": 0}, {"prompts": ["genral"]}, {"prompts": []}):
        with pytest.raises(ValidationError):
            part(**wrong)


def test_where_a_judge_stands_is_no_part_of_the_identity_but_who_judges_is() -> None:
    def identity(**changed: Any) -> Any:
        judge = {"kind": "judge", "url": "http://a/v1", "model": "m"} | changed
        return RewardSettings(parts={"helpful": part(scorer=judge, from_step=3)}).identity()

    assert identity() == identity(url="http://b/v1", timeout=9, retries=0)
    assert identity() != identity(model="n") and identity() != identity(rubric="be kind")
    assert identity()["parts"]["helpful"]["from_step"] == 3
