"""The answers of a stage `benchmark`: every benchmark has a store of its own, and a server is asked for all of those
that draw alike at once, so that it is not idle while the last long replies of one of them come in."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from openr1.engines.base import Engine, Request, collect
from openr1.errors import OutsideError
from openr1.records import Completion, request_seed
from openr1.stages.base import StageContext, completion_store
from openr1.stages.model_input import StageModel, store_identity
from openr1.stages.settings import BenchmarkStage
from openr1.store import AppendStore, Key
from openr1.tasks.questions import BenchmarkQuestion

Asked = Mapping[str, Sequence[BenchmarkQuestion]]


def answers(ctx: StageContext, engine: Engine, model: StageModel, questions: Asked) -> dict[str, list[Completion]]:
    """The first `k` answers to every question of every benchmark, from the stores or from the engine."""
    found: dict[str, list[Completion]] = {}
    for names in together(ctx.settings):
        found |= _answer(ctx, engine, model, {name: questions[name] for name in names})
    return found


def together(settings: BenchmarkStage) -> list[list[str]]:
    """The benchmarks that are asked at once: those with the same sampling. With transformers each by itself, since
    there the members of a batch decide the last bits of the logits, and another benchmark would change them."""
    if settings.engine.name == "transformers":
        return [[name] for name in settings.benchmarks]
    groups: dict[str, list[str]] = {}
    for name in settings.benchmarks:
        groups.setdefault(settings.sampling_of(name).model_dump_json(), []).append(name)
    return list(groups.values())


@dataclass(frozen=True)
class Stores:
    """The stores of several benchmarks as one: a completion goes where its prompt belongs."""

    stores: Mapping[str, AppendStore[Completion]]
    home: Mapping[str, str]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and key in self.stores[self.home[key[0]]]

    def keys(self) -> Container[Key]:
        return self

    def append(self, rows: Sequence[Completion]) -> None:
        by_name: dict[str, list[Completion]] = {}
        for row in rows:
            by_name.setdefault(self.home[row.prompt_id], []).append(row)
        for name, found in by_name.items():
            self.stores[name].append(found)


def _answer(ctx: StageContext, engine: Engine, model: StageModel, questions: Asked) -> dict[str, list[Completion]]:
    """The answers to benchmarks that draw alike."""
    settings: BenchmarkStage = ctx.settings
    names = list(questions)
    requests = {name: _requests(settings, name, found) for name, found in questions.items()}
    sampling = settings.sampling_of(names[0])
    with ExitStack() as open_stores:
        identity = store_identity(ctx, sampling, model, engine)
        stores = {
            name: open_stores.enter_context(completion_store(ctx.folder / "store" / name, identity)) for name in names
        }
        title = ", ".join(names) if len(settings.benchmarks) > 1 and len(names) <= 3 else ctx.name
        home = {q.id: name for name, found in questions.items() for q in found}
        every = [r for wanted in requests.values() for r in wanted]
        collect(engine, every, sampling, Stores(stores, home), settings.prefill, title, metrics=ctx.metrics)
        for store in stores.values():
            store.seal()
        found = {name: _kept(store, requests[name]) for name, store in stores.items()}
    for name, replies in found.items():
        _refuse_failed(ctx.name, name, len(requests[name]), replies)
    return found


def _requests(settings: BenchmarkStage, name: str, questions: Sequence[BenchmarkQuestion]) -> list[Request]:
    """Sample by sample, so that those of a smaller k come first."""
    return [
        Request(q.id, i, prompt.messages, request_seed(settings.seed, q.id, i))
        for i in range(settings.samples_of(name))
        for q in questions
        for prompt in [q.prompt(i, settings.seed, settings.system_prompt)]
    ]


def _kept(store: AppendStore[Completion], requests: Sequence[Request]) -> list[Completion]:
    """What the store has of the requests, in the order of the questions, then of the samples."""
    wanted = {r.key for r in requests}
    order = {id: i for i, id in enumerate(dict.fromkeys(r.prompt_id for r in requests))}
    found = [c for c in store.iter_rows() if c.key in wanted]
    return sorted(found, key=lambda c: (order[c.prompt_id], c.sample_index))


def _refuse_failed(stage: str, name: str, wanted: int, found: Sequence[Completion]) -> None:
    if lost := wanted - len(found):
        raise OutsideError(f"{name}: {lost} requests came back without a reply; the same command asks again")
    failed = [c for c in found if c.error is not None]
    if failed and len(failed) == len(found):
        why = f"{failed[0].error}"[:200]
        raise OutsideError(
            f"{name}: every one of {len(found)} requests failed ({why}); mend that, then rerun=[{stage}]"
        )
