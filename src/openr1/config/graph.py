"""The graph of a recipe: what each stage reads, whether that exists and fits, and the order to run in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from openr1.errors import did_you_mean
from openr1.stages.settings import StageSettings


def upstream(settings: StageSettings) -> list[str]:
    """Names of the stages that a stage reads from, each once."""
    return list(dict.fromkeys(ref.partition("/")[0] for ref in settings.inputs.values()))


def ordered(stages: Mapping[str, StageSettings]) -> list[str]:
    """Stages so that each comes after what it reads, otherwise in their own order; stages in a cycle are left out."""
    done: list[str] = []
    while True:
        ready = next(
            (n for n, s in stages.items() if n not in done and all(u in done for u in upstream(s))),
            None,
        )
        if ready is None:
            return done
        done.append(ready)


def needed(stages: Mapping[str, StageSettings], names: Collection[str]) -> list[str]:
    """The stages `names` and every stage that they read from, directly or not, in order."""
    found, todo = set(names), list(names)
    while todo:
        new = set(upstream(stages[todo.pop()])) - found
        found |= new
        todo += new
    return [s for s in ordered(stages) if s in found]


def graph_problems(stages: Mapping[str, StageSettings], invalid: Collection[str] = ()) -> list[str]:
    """Inputs that are unknown, missing, of the wrong kind, or in a cycle: one line each.

    `invalid` are stages whose own settings are wrong; what is read from them cannot be judged.
    """
    problems: list[str] = []
    for name, settings in stages.items():
        problems += _input_problems(stages, invalid, name, settings)
    if not problems and not invalid:
        looped = [n for n in stages if n not in ordered(stages)]
        if looped:
            problems.append(f"stages.{looped[0]}.inputs: {', '.join(looped)} read from each other in a circle")
    return problems


def _input_problems(
    stages: Mapping[str, StageSettings], invalid: Collection[str], name: str, settings: StageSettings
) -> list[str]:
    where = f"stages.{name}.inputs"
    specs = settings.INPUTS
    problems = [
        f"{where}: `{i}` is missing; a {settings.kind} stage reads {' or '.join(sorted(spec.accepts))} from it"
        for i, spec in specs.items()
        if spec.required and i not in settings.inputs
    ]
    for key, ref in settings.inputs.items():
        spec = settings.spec(key)
        if spec is None:
            problems.append(f"{where}.{key}: a {settings.kind} stage has no such input; {did_you_mean(key, specs)}")
            continue
        source, _, output = ref.partition("/")
        if source in invalid:
            continue
        if source not in stages:
            problems.append(f"{where}.{key}: {ref!r}: no stage is called {source!r}; {did_you_mean(source, stages)}")
            continue
        made = stages[source].outputs()
        if output not in made:
            problems.append(f"{where}.{key}: {ref!r}: {source} makes no {output!r}; {did_you_mean(output, made)}")
        elif made[output] not in spec.accepts:
            wanted = f"a {settings.kind} stage reads {' or '.join(sorted(spec.accepts))} there"
            problems.append(f"{where}.{key}: {ref!r} holds {made[output]}; {wanted}")
    return problems
