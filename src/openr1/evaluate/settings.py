"""Settings of evaluations: which completions are asked for and which statistics are made of them; torch-free."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.engines.settings import SamplingSettings
from openr1.errors import UserError, did_you_mean
from openr1.settings import Settings
from openr1.tasks.definitions import load_benchmark


class EvaluateSettings(Settings):
    """`greedy`: one completion a problem without chance; `k` completions with `sampling` (0: none).

    `pass_at`: the values of k' for pass@k' (null: powers of two up to k). `cons`: whether the majority answer is
    graded (cons@k). `prefill`: text that every reply is made to begin with. `reflection_words`: count the replies that
    hold one of them. `language`: measure the share of its words in the reasoning; `language_by` says how a word's
    language is decided. `format`: which form counts as well-formed, the strict think/answer one or R1's native one
    (reasoning in think tags, then plain text). What is only counted on replies is growth: changing it asks no model
    again.
    """

    GROWTH: ClassVar[frozenset[str]] = frozenset(
        {"k", "pass_at", "format", "reflection_words", "language", "language_by"}
    )

    k: Annotated[int, Field(ge=0)]
    sampling: SamplingSettings
    greedy: bool = True
    pass_at: list[Annotated[int, Field(ge=1)]] | None = None
    cons: bool = True
    prefill: str | None = None
    format: Literal["strict", "native"] = "strict"
    reflection_words: list[str] = []
    language: str | None = None
    language_by: Literal["identifier", "script"] = "identifier"

    @model_validator(mode="after")
    def _consistent(self) -> EvaluateSettings:
        if not self.greedy and self.k == 0:
            raise ValueError("greedy is false and k is 0, so there is nothing to evaluate; set one of them")
        if self.k and self.sampling.temperature == 0:
            raise ValueError("temperature is 0, so the k samples would be copies; set k: 0 or a temperature above 0")
        too_large = [n for n in self.pass_at or [] if n > max(self.k, 1)]
        if too_large:
            raise ValueError(f"pass_at {too_large} needs at least k = {max(too_large)}, but k is {self.k}")
        return self


class BenchmarkSettings(Settings):
    """Benchmarks by name, all answered by one model. What is null is the benchmark's own: `eval/benchmarks/NAME.yaml`.

    `k`: completions a question; `limit`: only the first questions of each. `prefill`: text that every reply is made to
    begin with (reasoning models: "<think>\\n"). `pass_at`: the values of k' for pass@k' (null: powers of two up to k).
    `trained_on`: files or folders of training data (Parquet, JSONL, CSV): problems that stand in them are flagged, and
    the score without them is told. `second_grader`: math-verify grades the math benchmarks too, and its disagreements
    are kept. `reference`: which model of `eval/reference_results.yaml` to hold the numbers against (null: the one of
    the same name). `revisions`: commits of the benchmarks' datasets by benchmark (NAME_tests for the tests of its
    programs), which `fetch` and `submit` fill in. More benchmarks, a larger k and what is only counted are growth: no
    answer is asked for again.
    """

    GROWTH: ClassVar[frozenset[str]] = frozenset(
        {"benchmarks", "k", "limit", "pass_at", "cons", "trained_on", "second_grader", "reference", "revisions"}
    )

    benchmarks: Annotated[list[str], Field(min_length=1)]
    k: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    system_prompt: Annotated[str, Field(min_length=1)] | None = None
    prefill: str | None = None
    pass_at: list[Annotated[int, Field(ge=1)]] | None = None
    cons: bool = True
    trained_on: list[str] = []
    second_grader: bool = True
    reference: str | None = None
    revisions: dict[str, str] = {}

    @model_validator(mode="after")
    def _possible(self) -> BenchmarkSettings:
        problems = [p for name in self.benchmarks for p in self._problems(name)]
        twice = sorted({name for name in self.benchmarks if self.benchmarks.count(name) > 1})
        problems += [f"benchmark {name} is named twice; name it once" for name in twice]
        known = [word for name in self.benchmarks for word in (name, f"{name}_tests")]
        problems += [f"revisions.{n}: no such benchmark here; {did_you_mean(n, known)}"
                     for n in self.revisions if n not in known]  # fmt: skip
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self, name: str) -> list[str]:
        try:
            k, sampling = self.samples_of(name), self.sampling_of(name)
        except UserError as e:
            return e.problems
        if k > 1 and sampling.temperature == 0:
            return [f"{name}: k is {k} at temperature 0, so the samples would be copies; set temperature, or k: 1"]
        too_large = [n for n in self.pass_at or [] if n > k]
        return [f"{name}: pass_at {too_large} needs k = {max(too_large)}, k is {k}; raise k"] if too_large else []

    def samples_of(self, name: str) -> int:
        """Completions a question of a benchmark."""
        return self.k if self.k is not None else load_benchmark(name).k

    def sampling_of(self, name: str) -> SamplingSettings:
        """How answers to a benchmark are drawn."""
        own = load_benchmark(name).sampling
        given = {n: getattr(self, n) for n in ("temperature", "top_p", "top_k", "max_new_tokens")}
        found = SamplingSettings.model_validate(
            own.model_dump() | {n: value for n, value in given.items() if value is not None}
        )
        return found.greedy() if found.temperature == 0 else found


Metric = Literal["greedy", "sampled", "format", "language", "response_tokens", "reflection"]


class ClaimSettings(Settings):
    """A claim of the paper that a run can test: the model `higher` is above the model `lower` in `metric`.

    `claim`: the paper's words, plainly; `source`: its section or table. `higher` and `lower` are names of models in
    the report. `note`: what a reader must know before comparing with the paper.
    """

    id: str
    claim: str
    source: str
    higher: str
    lower: str
    metric: Metric = "greedy"
    note: str | None = None
