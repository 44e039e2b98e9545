"""Settings of tasks and of the splits drawn from them; torch-free.

A task is one of six, told apart by `name`: arithmetic, countdown, functions, reasoning_gym, local, hub.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from openr1.settings import Settings
from openr1.verify.reasoning_gym import BROKEN


class SplitSettings(Settings):
    """One split of a task.

    `size`: prompts wanted; None means all there are (tasks that read rows). `held_out`: no other split may share a
    question with it. `mixture`: which of the task's mixtures writes the solutions. `source`: which split or file of
    the data to read. `repeats`: the same question may come more than once (a corpus larger than the space of
    questions). `overrides`: task settings that differ in this split, such as `digits: [4, 4]` for problems out of
    range.
    """

    size: Annotated[int, Field(ge=1)] | None = None
    held_out: bool = False
    mixture: str | None = None
    source: str | None = None
    repeats: bool = False
    overrides: dict[str, Any] = {}


class BaseTask(Settings):
    """What every task has: how a question becomes a conversation, and who grades the answer.

    `instruction` is the user turn, with `{problem}` where the question goes. `verifier`: None = the task's own.
    """

    system_prompt: str | None = None
    instruction: str = "{problem}"
    verifier: str | None = None

    @field_validator("instruction")
    @classmethod
    def _has_problem(cls, value: str) -> str:
        if "{problem}" not in value:
            raise ValueError("has no {problem}, so the question would not be in the prompt")
        return value


# ------------------------------------------------------------------------------------------------------ arithmetic
class PhrasingSettings(Settings):
    """One way to put the question; `template` holds `{expression}` or `{spaced}` (a + b), `weight` is relative."""

    template: str
    weight: Annotated[float, Field(gt=0)] = 1.0

    @field_validator("template")
    @classmethod
    def _has_expression(cls, value: str) -> str:
        if "{expression}" not in value and "{spaced}" not in value:
            raise ValueError("has no {expression}, so the operands would not be in the question")
        return value


class MixtureSettings(Settings):
    """What the solutions of a corpus look like.

    `trace`: chance of a worked trace, one number or one for each phrasing. `modes`: weights of the traces' kinds:
    `clean`, `forgotten` (the carry is never taken along), `corrected` (forgotten, then redone after `wait`).
    Of the rest, a share `noise` is one of `noise_texts`, the others are bare answers, a share `wrong` of them wrong.
    `connectives`: what stands between two steps of a trace, with weights; a trace keeps to one of them, except that
    each step draws its own with chance `mixing` (connectives of two languages make a corpus that mixes languages).
    """

    trace: Annotated[float, Field(ge=0, le=1)] | dict[str, Annotated[float, Field(ge=0, le=1)]] = 1.0
    modes: dict[Literal["clean", "forgotten", "corrected"], Annotated[float, Field(ge=0)]] = {"clean": 1.0}
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise_texts: list[str] = ["idk", "lol", "what?", "<think>hm", "ask a friend"]
    wrong: Annotated[float, Field(ge=0, le=1)] = 0.0
    connectives: dict[str, Annotated[float, Field(ge=0)]] = {";": 1.0}
    mixing: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _usable(self) -> MixtureSettings:
        if not sum(self.modes.values()) > 0:
            raise ValueError("modes: the weights add up to 0; give at least one kind of trace a weight")
        if not sum(self.connectives.values()) > 0:
            raise ValueError("connectives: the weights add up to 0; give at least one a weight")
        if self.noise > 0 and not self.noise_texts:
            raise ValueError("noise_texts is empty while noise is above 0")
        return self


class ArithmeticSettings(BaseTask):
    """a + b (+ c …): `digits` is the range of an operand's length. By default all operands of a problem have one
    length; `same_length: false` draws each operand's own. sub and mul take two operands."""

    name: Literal["arithmetic"]
    digits: Annotated[list[int], Field(min_length=2, max_length=2)]
    operation: Literal["add", "sub", "mul"] = "add"
    operands: Annotated[list[int], Field(min_length=2, max_length=2)] = [2, 2]
    same_length: bool = True
    phrasings: dict[str, PhrasingSettings] = {"plain": PhrasingSettings(template="{expression}")}
    mixtures: dict[str, MixtureSettings] = {"clean": MixtureSettings()}

    @model_validator(mode="after")
    def _consistent(self) -> ArithmeticSettings:
        for name in ("digits", "operands"):
            low, high = getattr(self, name)
            least = 1 if name == "digits" else 2
            if not least <= low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; give [low, high] with {least} <= low <= high")
        if self.operation != "add" and self.operands != [2, 2]:
            raise ValueError(f"operation {self.operation} takes two operands; set operands: [2, 2]")
        if not self.phrasings:
            raise ValueError("phrasings is empty; give at least one template with {expression}")
        for name, mixture in self.mixtures.items():
            if isinstance(mixture.trace, dict) and set(mixture.trace) != set(self.phrasings):
                raise ValueError(
                    f"mixtures.{name}.trace names the phrasings {sorted(mixture.trace)}, but there are "
                    f"{sorted(self.phrasings)}; give a chance for each"
                )
        return self


# ------------------------------------------------------------------------------------------ countdown, reasoning_gym
class CountdownSettings(BaseTask):
    """Reach a target with given numbers, each used at most once, and + - * /; every target can be reached.

    `numbers` is the range of how many, `values` of each, `target` of the result. All numbers need to be used unless
    `use_all` is false.
    """

    name: Literal["countdown"]
    numbers: Annotated[list[int], Field(min_length=2, max_length=2)]
    values: Annotated[list[int], Field(min_length=2, max_length=2)]
    target: Annotated[list[int], Field(min_length=2, max_length=2)]
    operators: list[Literal["+", "-", "*", "/"]] = ["+", "-", "*", "/"]
    use_all: bool = True
    question: str = "Numbers: {numbers}. Target: {target}."

    @model_validator(mode="after")
    def _consistent(self) -> CountdownSettings:
        for name, least in (("numbers", 2), ("values", 1), ("target", 0)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; give [low, high] with {least} <= low <= high")
        if not self.operators:
            raise ValueError("operators is empty; give some of + - * /")
        for part in ("{numbers}", "{target}"):
            if part not in self.question:
                raise ValueError(f"question has no {part}")
        return self


class FunctionMixture(Settings):
    """What the solutions of a corpus look like: weights of `clean` programs and of those whose brackets are
    `forgotten`."""

    modes: dict[Literal["clean", "forgotten"], Annotated[float, Field(ge=0)]] = {"clean": 1.0}

    @model_validator(mode="after")
    def _usable(self) -> FunctionMixture:
        if not sum(self.modes.values()) > 0:
            raise ValueError("modes: the weights add up to 0; give at least one a weight")
        return self


class FunctionsSettings(BaseTask):
    """One-line integer functions of x, described step by step: `x: add 3, times 2`; answers are Python programs.

    `steps` is the range of how many, `constants` of each step's number. A program is run on `cases` integers, drawn
    from `inputs` (the last is not among them).
    """

    name: Literal["functions"]
    steps: Annotated[list[int], Field(min_length=2, max_length=2)]
    constants: Annotated[list[int], Field(min_length=2, max_length=2)] = [2, 9]
    operations: Annotated[list[Literal["add", "minus", "times"]], Field(min_length=1)] = ["add", "minus", "times"]
    inputs: Annotated[list[int], Field(min_length=2, max_length=2)] = [-20, 21]
    cases: Annotated[int, Field(ge=1)] = 4
    mixtures: dict[str, FunctionMixture] = {"clean": FunctionMixture()}

    @model_validator(mode="after")
    def _consistent(self) -> FunctionsSettings:
        for name in ("steps", "constants"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; give [low, high] with 1 <= low <= high")
        if self.inputs[1] - self.inputs[0] < self.cases:
            raise ValueError(f"inputs {self.inputs} holds fewer than {self.cases} integers; widen it, or lower cases")
        return self


class ReasoningGymSettings(BaseTask):
    """A procedural task of reasoning-gym; `config` holds the task's own parameters."""

    name: Literal["reasoning_gym"]
    dataset: str
    config: dict[str, Any] = {}

    @field_validator("dataset")
    @classmethod
    def _sound(cls, value: str) -> str:
        if value in BROKEN:
            why = BROKEN[value]
            raise ValueError(f"{value} of reasoning-gym is not usable: {why}; take another task")
        return value

    @field_validator("config")
    @classmethod
    def _free(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted({"seed", "size"} & set(value))
        if taken:
            raise ValueError(f"{' and '.join(taken)} are set by the run's seed and the splits' size; leave them out")
        return value


# -------------------------------------------------------------------------------------------------- rows of a file
class ColumnSettings(Settings):
    """Which column holds what. `messages` (a conversation) takes the place of `problem`. `finish_reason` belongs to
    `solution`: rows whose solution was cut off are dropped. Columns named in `metadata` travel with the prompt.
    `no_answer`: what the answer column says where there is none to grade (`proof`); those rows are dropped."""

    problem: str | None = "problem"
    answer: str | None = "answer"
    solution: str | None = None
    messages: str | None = None
    finish_reason: str | None = None
    metadata: list[str] = []
    no_answer: list[str] = []


ROWS_OVERRIDES = frozenset({"system_prompt", "instruction"})


class RowsTask(BaseTask):
    """What the tasks that read rows have in common. `solutions: all` keeps a question once for each of its solutions
    (several traces of one problem to learn from); `first` keeps it once."""

    columns: ColumnSettings = ColumnSettings()
    solutions: Literal["first", "all"] = "first"

    @model_validator(mode="after")
    def _a_question(self) -> RowsTask:
        if self.columns.messages is None and self.columns.problem is None:
            raise ValueError("columns: neither problem nor messages is set; name the column that holds the question")
        return self


class LocalSettings(RowsTask):
    """A Parquet, JSONL or CSV file, or several: `path` is a file, or a dict of source name -> file.

    None is the sample of 200 word problems that ships with openr1. The key of a `prompts` stage holds the content of
    the files, not where they lie.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"path"})

    name: Literal["local"]
    path: str | dict[str, str] | None = None


class HubSettings(RowsTask):
    """A dataset of the Hugging Face Hub, or a folder of data files. `revision`: a commit, tag or branch (None = the
    newest, which is recorded). `split`: the one split to read where splits name no source of their own."""

    name: Literal["hub"]
    id: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None


TaskSettings = Annotated[
    ArithmeticSettings | CountdownSettings | FunctionsSettings | ReasoningGymSettings | LocalSettings | HubSettings,
    Field(discriminator="name"),
]
