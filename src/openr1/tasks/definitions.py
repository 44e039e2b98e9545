"""What a benchmark is: eval/benchmarks/NAME.yaml says where its questions come from, how they are asked and graded."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import Field, ValidationError, model_validator

from openr1.errors import UserError, did_you_mean
from openr1.paths import data_dir
from openr1.settings import Settings
from openr1.tasks.programs import Programs


class BenchmarkSource(Settings):
    """A dataset of the Hub. `files`: patterns of the data files of this split, for the cache; the first that matches.

    `revision`: a commit, tag or branch; `main` is the newest, whose commit is recorded when it is loaded.
    """

    id: str
    config: str | None = None
    split: str = "test"
    revision: str = "main"
    files: list[str] = Field(min_length=1)
    gated: bool = False


class BenchmarkColumns(Settings):
    """Which column holds what. `choices`: one column with a list, or the columns that hold the wrong answers.

    `answer_pattern`: a regular expression whose group 1 is the gold in a longer answer. `answer_is`: the answer
    itself, the letter of a choice, or the text of one. `answer` is null where the verifier needs no gold, and
    `metadata` names the columns that it needs instead.
    """

    question: str = "problem"
    answer: str | None = "answer"
    id: str | None = None
    choices: str | list[str] | None = None
    answer_pattern: str | None = None
    answer_is: str = Field(default="text", pattern="^(text|letter|choice)$")
    metadata: list[str] = []


class GeneratedSource(Settings):
    """A suite of procedural tasks of reasoning-gym: `each` questions of every one of `tasks` (name -> its parameters).

    `seed` draws them. Another seed holds nothing out: training data is kept apart from a suite by the questions
    themselves (the step `decontaminate` of curate knows the suites by name).
    """

    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    each: Annotated[int, Field(ge=1)]
    seed: int


class BenchmarkSampling(Settings):
    """How answers are drawn; `max_new_tokens` is the token budget, without which no score can be compared."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)]


class Benchmark(Settings):
    """A benchmark's definition.

    `prompt` is the user turn, with `{question}` and, for multiple choice, `{choices}`. `k`: completions a question.
    `problems`: how many there are; `sha256`: of the file in `eval/data` where it ships. `language` is an ISO 639-1
    code; `language_consistency`: the share of the reasoning that is in it is measured too. `shuffle_choices`: every
    sample shows the choices in an order of its own, drawn by its seed. `generated`: the questions are made here.
    `programs`: which dataset's rows these are, where the answers are programs (`openr1.tasks.programs`); `tests`: the
    dataset that holds their tests; `released`: the first and the last day of the contests that are asked.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"title", "homepage", "licence", "note"})

    title: str
    homepage: str
    licence: str
    source: BenchmarkSource | None = None
    columns: BenchmarkColumns = BenchmarkColumns()
    prompt: str
    verifier: str
    k: Annotated[int, Field(ge=1)]
    sampling: BenchmarkSampling
    problems: Annotated[int, Field(ge=1)]
    sha256: str | None = None
    language: str = "en"
    language_consistency: bool = False
    shuffle_choices: bool = False
    generated: GeneratedSource | None = None
    programs: Programs | None = None
    tests: BenchmarkSource | None = None
    released: Annotated[list[date], Field(min_length=2, max_length=2)] | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        if "{question}" not in self.prompt:
            raise ValueError("prompt has no {question}, so nothing would be asked")
        if self.columns.choices is not None and "{choices}" not in self.prompt:
            raise ValueError("prompt has no {choices}, so the choices would not be shown")
        if self.columns.answer_is == "choice" and not self.shuffle_choices:
            raise ValueError("answer_is choice puts the right one first; set shuffle_choices: true")
        if self.k > 1 and self.sampling.temperature == 0:
            raise ValueError(f"k is {self.k} at temperature 0, so the samples would be copies; set k: 1")
        return self


def benchmark_names() -> list[str]:
    """The benchmarks that openr1 knows, in alphabetical order."""
    return sorted(path.stem for path in (data_dir("eval") / "benchmarks").glob("*.yaml"))


@cache
def load_benchmark(name: str) -> Benchmark:
    """The definition of a benchmark.

    Raises:
        UserError: no such benchmark, or a definition with unknown or wrong entries, one line each.
    """
    known = benchmark_names()
    if name not in known:
        raise UserError(f"benchmark {name!r}: there is none of this name; {did_you_mean(name, known)}")
    return read_benchmark(data_dir("eval") / "benchmarks" / f"{name}.yaml")


def read_benchmark(path: Path) -> Benchmark:
    """A definition from a file; raises UserError with every problem found."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not YAML ({str(e).splitlines()[0]})") from e
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds a {type(raw).__name__}; write one entry a line, such as title: …")
    try:
        return Benchmark.model_validate(raw)
    except ValidationError as e:
        raise UserError(*(_problem(path, error) for error in e.errors())) from e


def _problem(path: Path, error: Any) -> str:
    """One validation error as a line: where, what, and the nearest known key."""
    where = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{path}: {where + ': ' if where else ''}{error['msg'].removeprefix('Value error, ')}"
    kinds: dict[str, type[Settings]] = {
        "source": BenchmarkSource,
        "columns": BenchmarkColumns,
        "sampling": BenchmarkSampling,
        "generated": GeneratedSource,
    }
    kind = kinds.get(str(error["loc"][0]), Benchmark) if len(error["loc"]) > 1 else Benchmark
    return f"{path}: {where}: no such entry; {did_you_mean(str(error['loc'][-1]), kind.model_fields)}"
