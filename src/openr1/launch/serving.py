"""The vLLM server beside the trainers of a GRPO stage: where it runs, when they may start, that they end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from openr1.config.recipe import Recipe
from openr1.engines.server import rollout_server
from openr1.engines.settings import VLLMSettings
from openr1.engines.vllm_program import Place, visible_gpus
from openr1.nodes.local import Node
from openr1.nodes.network import ports_of
from openr1.stages.base import StageContext
from openr1.train.settings import ServerSettings


@dataclass(frozen=True)
class Serving:
    """What the trainers need of the server: the recipe that names its address, their environment, and why it is
    gone, None while it is there. Without a server they need nothing."""

    recipe: Recipe
    environment: dict[str, str] = field(default_factory=dict)
    gone: Callable[[], str | None] = lambda: None


def share_out(nodes: Sequence[Node], settings: Any) -> tuple[list[Node], Place | None]:
    """(the nodes that train, where the server runs): the last node, or the last GPUs of the only one."""
    server: ServerSettings | None = getattr(settings, "server", None)
    if server is None:
        return list(nodes), None
    return list(nodes[:-1] or nodes), Place(nodes[-1], _gpus(nodes[-1])[-server.gpus :])


def _gpus(node: Node) -> list[str]:
    return visible_gpus() if node.job is None else node.gpus


@contextmanager
def serving(
    recipe: Recipe, context: StageContext, model: Path, logs: Path, first: Node, place: Place | None
) -> Iterator[Serving]:
    """The server answers when the block begins, and is gone after it. `first` is the node of rank 0.

    Raises UserError or OutsideError, with the reason in its log, where it does not start in time.
    """
    if place is None:
        yield Serving(recipe)
        return
    from openr1.engines.vllm import ModelFolder

    settings: ServerSettings = context.settings.server
    engine = VLLMSettings.model_validate({"name": "vllm", **settings.model_dump()})
    folder = ModelFolder(model, engine.max_model_len)
    servers = rollout_server(engine, model, logs, folder.probe, folder.context, place)
    (server,) = servers.servers.values()
    servers.start()

    def gone() -> str | None:
        if not server.ended:
            return None
        return f"{server.name} ended: {server.last_words()}; log: {server.log}; the same command goes on from here"

    try:
        yield Serving(_told(recipe, context.name, server.url, place), _environment(first, place), gone)
    finally:
        servers.close()


def _told(recipe: Recipe, stage: str, url: str, place: Place) -> Recipe:
    """The recipe as the trainers read it: they know the server's address, and a port to hand weights over."""
    settings: Any = recipe.stages[stage]
    own: dict[str, Any] = {"vllm_server_base_url": url.removesuffix("/v1")}
    if place.node.job is not None:
        own["vllm_group_port"] = next(islice(ports_of(place.node.job, "weights"), 1))
    processes = None if settings.parallel.kind == "single" else settings.world_size
    parallel = settings.parallel.model_copy(update={"processes": processes})
    told = settings.model_copy(update={"train": settings.train | own, "server": None, "parallel": parallel})
    return recipe.model_copy(update={"stages": recipe.stages | {stage: told}})


def _environment(first: Node, place: Place) -> dict[str, str]:
    """The address at which the server finds rank 0, and the trainers' GPUs where it has the last of their node."""
    found = {"VLLM_HOST_IP": first.address}
    if place.node is first and place.gpus:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(g for g in _gpus(first) if g not in place.gpus)
    return found
