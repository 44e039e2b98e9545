"""Settings of curation: an ordered list of steps, each of which keeps a row or drops it with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.settings import Settings

Unit = Literal["prompt", "completion"]


class StepSettings(Settings):
    """What every step has.

    UNIT: what it looks at; a prompt that is dropped takes its completions with it. READS: inputs of the stage that it
    cannot do without. REPEATABLE: may stand in the list more than once, with other settings.
    """

    UNIT: ClassVar[Unit] = "completion"
    READS: ClassVar[tuple[str, ...]] = ("completions",)
    REPEATABLE: ClassVar[bool] = False

    step: str

    def unit(self) -> Unit:
        """Whether the step drops prompts or completions."""
        return self.UNIT

    def reads(self) -> tuple[str, ...]:
        """Inputs of the stage that the step needs beside the prompts."""
        return self.READS if self.unit() == "completion" else ()


class GradedStep(StepSettings):
    """Drops completions whose request failed, and those that could not be graded (`infra_error`, `bad_gold`)."""

    READS: ClassVar[tuple[str, ...]] = ("completions", "verdicts")

    step: Literal["graded"]


class CorrectStep(StepSettings):
    """Drops completions that are not correct; `complete`: also those that were cut at the token limit."""

    READS: ClassVar[tuple[str, ...]] = ("completions", "verdicts")

    step: Literal["correct"]
    complete: bool = True


class FormatStep(StepSettings):
    """Drops completions that are not of a form: `strict` (think and answer tags), or `native` (R1's own)."""

    step: Literal["format"]
    form: Literal["strict", "native"]


class LanguageStep(StepSettings):
    """Drops texts of which less than `share` of the words, outside maths and code, are in `language`.

    of: `completion`, or `question` (drops the prompt). by: `identifier` (py3langid tells languages of one script apart
    by the sentence) or `script` (word by word). A text without words is kept.
    """

    REPEATABLE: ClassVar[bool] = True

    step: Literal["language"]
    language: str = "en"
    share: float = Field(default=0.8, gt=0, le=1)
    of: Literal["completion", "question"] = "completion"
    by: Literal["identifier", "script"] = "identifier"

    def unit(self) -> Unit:
        return "completion" if self.of == "completion" else "prompt"

    @model_validator(mode="after")
    def _known(self) -> LanguageStep:
        from openr1.errors import did_you_mean
        from openr1.rewards.language import LANGUAGES

        if self.language not in LANGUAGES:
            raise ValueError(f"unknown language {self.language!r}: {did_you_mean(self.language, LANGUAGES)}")
        return self


class LengthStep(StepSettings):
    """Drops completions by tokens (min_tokens, max_tokens), or prompts by characters of the question."""

    REPEATABLE: ClassVar[bool] = True

    step: Literal["length"]
    of: Literal["completion", "question"] = "completion"
    min_tokens: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    min_chars: int | None = Field(default=None, ge=0)
    max_chars: int | None = Field(default=None, ge=1)

    def unit(self) -> Unit:
        return "completion" if self.of == "completion" else "prompt"

    @model_validator(mode="after")
    def _bounds(self) -> LengthStep:
        tokens, chars = (self.min_tokens, self.max_tokens), (self.min_chars, self.max_chars)
        if self.of == "question" and tokens != (None, None):
            raise ValueError("a question is measured in characters; set min_chars or max_chars, or of: completion")
        if tokens == (None, None) and chars == (None, None):
            raise ValueError("length sets no bound; set min_tokens, max_tokens, min_chars or max_chars")
        for low, high in (tokens, chars):
            if low is not None and high is not None and low > high:
                raise ValueError(f"length keeps nothing: at least {low} and at most {high}; exchange them")
        return self


class RepetitionStep(StepSettings):
    """Drops completions that repeat themselves: more than `max_share` of the n-grams of `ngram_size` came before.

    grams_of: `words` (white space; characters in scripts without spaces) or `characters`, which sees loops of digits
    and symbols without any space.
    """

    REPEATABLE: ClassVar[bool] = True

    step: Literal["repetition"]
    max_share: float = Field(default=0.5, ge=0, lt=1)
    ngram_size: int = Field(default=8, ge=1)
    grams_of: Literal["words", "characters"] = "words"


class SameTextStep(StepSettings):
    """Drops a completion whose text is that of an earlier sample of its prompt."""

    step: Literal["same_text"]


class SelectStep(StepSettings):
    """Keeps `per_prompt` completions of a prompt.

    by: `shortest` (completion tokens), `random` (seeded), or `diverse`: the shortest first, then always the one whose
    word n-grams are farthest (Jaccard distance) from those that were taken.
    """

    step: Literal["select"]
    per_prompt: int = Field(ge=1)
    by: Literal["shortest", "random", "diverse"] = "shortest"


class ExactDedupStep(StepSettings):
    """Drops prompts whose question, normalised, is that of another; the one with the smallest id stays."""

    UNIT: ClassVar[Unit] = "prompt"

    step: Literal["exact_dedup"]


class NearDedupStep(StepSettings):
    """Drops prompts whose question nearly is that of another; of a cluster the one with the smallest id stays.

    Two questions are near when the Jaccard similarity of their character shingles, estimated by MinHash, is at least
    `threshold`. `permutations` hashes a question; more of them make the estimate sharper.
    """

    UNIT: ClassVar[Unit] = "prompt"

    step: Literal["near_dedup"]
    threshold: float = Field(default=0.8, ge=0.5, le=1)
    permutations: int = Field(default=128, ge=16, le=1024)
    shingle: int = Field(default=5, ge=1, le=50)


class DecontaminateStep(StepSettings):
    """Drops prompts that are copies of benchmark problems, or of parts of them.

    against: benchmarks of `eval/benchmarks` by name, or `all`. files: name -> Parquet, JSONL or CSV file with more
    problems, in `column`. A benchmark whose text is not to hand is reported as not checked. ngram: tokens of an
    n-gram, the least that a part must have. coverage: the share of the shorter of the two texts from which such parts
    count as a copy. distinctive: how many numbers and uncommon words make a single part count whatever it covers.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"files"})  # their content is in the key, their places are not
    UNIT: ClassVar[Unit] = "prompt"

    step: Literal["decontaminate"]
    against: Literal["all"] | list[str] = "all"
    files: dict[str, str] = {}
    column: str = "problem"
    ngram: int = Field(default=8, ge=5, le=50)
    coverage: float = Field(default=0.4, gt=0, le=1)
    distinctive: float = Field(default=4.0, ge=0)

    @model_validator(mode="after")
    def _known(self) -> DecontaminateStep:
        from openr1.errors import did_you_mean
        from openr1.tasks.definitions import benchmark_names

        known = benchmark_names()
        for name in self.benchmarks():
            if name not in known:
                raise ValueError(f"against: no benchmark {name!r}; {did_you_mean(name, known)}")
        both = sorted(set(self.files) & set(known))
        if both:
            raise ValueError(f"files: {both[0]} is the name of a benchmark; give the file another")
        if not self.benchmarks() and not self.files:
            raise ValueError("against is empty and there are no files, so nothing would be checked; set one of them")
        return self

    def benchmarks(self) -> list[str]:
        """The names of the benchmarks to check against."""
        from openr1.tasks.definitions import benchmark_names

        return benchmark_names() if self.against == "all" else list(self.against)


class PassRateStep(StepSettings):
    """Keeps in the RL set the prompts whose measured pass rate lies in [low, high]; the SFT set is left alone.

    A prompt of which no completion could be graded has no pass rate and leaves the RL set. The column `pass_rate` is
    in every output, with this step or without.
    """

    UNIT: ClassVar[Unit] = "prompt"
    READS: ClassVar[tuple[str, ...]] = ("completions", "verdicts")

    step: Literal["pass_rate"]
    low: float = Field(default=0.0, ge=0, le=1)
    high: float = Field(default=1.0, ge=0, le=1)

    def reads(self) -> tuple[str, ...]:
        return self.READS

    @model_validator(mode="after")
    def _band(self) -> PassRateStep:
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; exchange them")
        return self


class MixStep(StepSettings):
    """Brings sources to the shares that `weights` asks for, as many rows as the scarcest source allows.

    source: `task`, or a key of the prompts' metadata. of: what is counted, completions (the SFT set) or prompts (both
    sets). size: at most so many rows in all. Which rows of a source stay is a seeded draw.
    """

    step: Literal["mix"]
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    source: str = "task"
    of: Literal["completion", "prompt"] = "completion"
    size: int | None = Field(default=None, ge=1)
    others: Literal["drop", "keep"] = "drop"

    def unit(self) -> Unit:
        return self.of


class SplitStep(StepSettings):
    """Sets prompts aside with all their completions: `parts: {test: 0.02}` makes the outputs sft_test and rl_test.

    What is left is `sft` and `rl`. Where a prompt goes is decided by a hash of its id and the seed, so it stays there
    when others come or go.
    """

    UNIT: ClassVar[Unit] = "prompt"

    step: Literal["split"]
    parts: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares(self) -> SplitStep:
        import re

        for name in self.parts:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is no name of a part; use letters, digits and _")
        if sum(self.parts.values()) >= 1:
            raise ValueError(f"parts take {sum(self.parts.values()):g} of the prompts; leave some for sft and rl")
        return self


Step = Annotated[
    GradedStep
    | CorrectStep
    | FormatStep
    | LanguageStep
    | LengthStep
    | RepetitionStep
    | SameTextStep
    | SelectStep
    | ExactDedupStep
    | NearDedupStep
    | DecontaminateStep
    | PassRateStep
    | MixStep
    | SplitStep,
    Field(discriminator="step"),
]


class CurateSettings(Settings):
    """steps: what is done, in this order; a row that is dropped is not seen by the steps after."""

    steps: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _sensible(self) -> CurateSettings:
        problem = next(iter([*_repeated(self.steps), *_out_of_order(self.steps)]), None)
        if problem:
            raise ValueError(problem)
        return self

    def parts(self) -> list[str]:
        """Names of the parts that a `split` sets aside."""
        return [name for s in self.steps if isinstance(s, SplitStep) for name in s.parts]


FREE = ("mix", "split", "pass_rate")  # what may stand after a mix


def _repeated(steps: list[Any]) -> Iterator[str]:
    for name, n in Counter(s.step for s in steps).items():
        same = [s for s in steps if s.step == name]
        if n > 1 and not type(same[0]).REPEATABLE:
            yield f"step {name} stands there {n} times; once is enough"
        elif any(a == b for i, a in enumerate(same) for b in same[:i]):
            yield f"step {name} stands there twice with the same settings; take one out"


def _out_of_order(steps: list[Any]) -> Iterator[str]:
    """Steps that judge single completions belong before `select`, others before a `mix` whose rows they drop."""
    chosen = mixed = None
    for s in steps:
        if chosen and s.unit() == "completion" and s.step not in ("select", "mix"):
            yield f"step {s.step} stands after select, which would have chosen among rows that it drops; put it before"
        if mixed and s.step not in FREE and (s.unit() == mixed or s.unit() == "prompt"):
            yield f"step {s.step} stands after mix and would change its shares; put it before"
        chosen = chosen or (s.step if s.step == "select" else None)
        mixed = mixed or (s.unit() if s.step == "mix" else None)
