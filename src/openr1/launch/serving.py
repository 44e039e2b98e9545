"""The vLLM server beside the trainers of a GRPO stage: where it runs, when they may start, that they end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from openr1.engines.server import rollout_server
from openr1.engines.settings import VLLMSettings
from openr1.engines.vllm_program import Place, visible_gpus
from openr1.errors import UserError
from openr1.nodes.base import Node
from openr1.nodes.network import ports_of
from openr1.stages.base import StageContext
from openr1.stages.settings import GRPOStage
from openr1.train.settings import ServerSettings
from openr1.train.vllm_rollouts import OwnServer, planned_dtype, server_arguments


@dataclass(frozen=True)
class Serving:
    """What the trainers need of the server: their environment, which names it, and why it is gone, None while it is
    there. Without a server they need nothing."""

    environment: dict[str, str] = field(default_factory=dict)
    gone: Callable[[], str | None] = lambda: None


def share_out(nodes: Sequence[Node], settings: Any) -> tuple[list[Node], Place | None]:
    """(the nodes that train, where the server runs): the last node, or the last GPUs of the only one.

    Raises:
        UserError: fewer GPUs than the two take.
    """
    server = settings.own_server() if isinstance(settings, GRPOStage) else None
    if server is None:
        return list(nodes), None
    gpus, training = _gpus(nodes[-1]), settings.world_size if len(nodes) == 1 else 0
    if gpus and training + server.gpus > len(gpus):
        raise UserError(
            f"train.vllm_mode server: {training} that train and {server.gpus} of the vLLM server "
            f"(train.vllm_tensor_parallel_size, or server) are {training + server.gpus} GPUs, {len(gpus)} are visible"
        )
    return list(nodes[:-1] or nodes), Place(nodes[-1], gpus[-server.gpus :])


def _gpus(node: Node) -> list[str]:
    return visible_gpus() if node.job is None else node.gpus


@contextmanager
def serving(context: StageContext, model: Path, logs: Path, first: Node, place: Place | None) -> Iterator[Serving]:
    """The server answers when the block begins, and is gone after it. `first` is the node of rank 0.

    Raises UserError or OutsideError, with the reason in its log, where it does not start in time.
    """
    if place is None:
        yield Serving()
        return
    from openr1.engines.model_folder import ModelFolder

    folder, settings = ModelFolder(model, None), context.settings
    engine = _engine(settings, model, folder.context, bool(place.gpus))
    servers = rollout_server(engine, model, logs, folder.probe, engine.max_model_len, place)
    (server,) = servers.servers.values()
    servers.start()

    def gone() -> str | None:
        if not server.ended:
            return None
        return f"{server.name} ended: {server.last_words()}; log: {server.log}; the same command goes on from here"

    port = None if place.node.job is None else next(islice(ports_of(place.node.job, "weights"), 1))
    told = OwnServer(server.url.removesuffix("/v1"), servers.key, engine.dtype, port)
    try:
        yield Serving(told.environment() | _environment(first, place), gone)
    finally:
        servers.close()


def _engine(settings: Any, model: Path, context: int | None, gpu: bool) -> VLLMSettings:
    """The server's engine: what `server` and `train` say, and what TRL needs."""
    server: ServerSettings = settings.own_server()
    longest = min((n for n in (context, settings.train.get("vllm_max_model_length")) if n), default=None)
    given = server.model_dump() | {"name": "vllm", "max_model_len": longest}
    if server.dtype == "auto":
        given["dtype"] = planned_dtype(model, settings.train, gpu)
    given["extra"] = server_arguments(gpu) | server.extra
    return VLLMSettings.model_validate(given)


def _environment(first: Node, place: Place) -> dict[str, str]:
    """The address at which the server finds rank 0, and the trainers' GPUs where it has the last of their node."""
    found = {"VLLM_HOST_IP": first.address}
    if place.node is first and place.gpus:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(g for g in _gpus(first) if g not in place.gpus)
    return found
