"""The engine `vllm`: as servers that the stage starts (`server.py`), or in this process.

Both get token ids, rendered and counted here, and hand token ids back that are decoded here: vLLM loads tokenizers
with AutoTokenizer, which (transformers 5.19) puts Qwen2's own pre-tokenizer over a foreign one. Both start when the
first completion is asked for, after everything that can be refused has been.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Container, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.engines import server
from openr1.engines.base import Engine, Key, Request
from openr1.engines.model_folder import ModelFolder
from openr1.engines.settings import SamplingSettings, VLLMSettings
from openr1.engines.vllm_program import (
    HOW_TO_GET,
    engine_arguments,
    set_environment,
    split_gpus,
    visible_gpus,
)
from openr1.errors import OutsideError, UserError
from openr1.records import Completion, FinishReason
from openr1.store import now

if TYPE_CHECKING:
    from openr1.engines.http_engine import HTTPEngine

logger = logging.getLogger("openr1")
RETRIES = 8
ENDS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


def open_engine(settings: VLLMSettings, model_dir: Path | None, work: Path | None = None) -> Engine:
    """The engine in the mode that `settings` name.

    Args:
        work: where servers write their logs; without it they are deleted with the engine.

    Raises:
        UserError: no vLLM to be found, a model without a chat template, too few GPUs, several replicas in one process.
    """
    assert model_dir is not None
    if settings.mode == "offline":
        _check_offline(settings)
        return OfflineEngine(settings, ModelFolder(model_dir, settings.max_model_len), work)
    return ServerEngine(settings, ModelFolder(model_dir, settings.max_model_len), work)


def _check_offline(settings: VLLMSettings) -> None:
    """Raise UserError for what this process cannot do."""
    if settings.data_parallel > 1:
        raise UserError(
            f"engine.mode offline is one replica in one process, engine.data_parallel is {settings.data_parallel}; "
            "use engine.mode=server, which starts one server for each"
        )
    if find_spec("vllm") is None:
        raise UserError(
            f"engine.mode offline needs vLLM in this environment; {HOW_TO_GET}; run with that environment's "
            "openr1, or use engine.mode=server, which finds the program of another environment"
        )


class _VLLM:
    """What both modes share: the checks before the start, and the name."""

    def __init__(self, settings: VLLMSettings, model: ModelFolder, work: Path | None) -> None:
        self.settings, self.model, self.work = settings, model, work
        self.parameters = model.parameters
        self.version: str | None = None

    def identity(self) -> dict[str, Any]:
        named = {"name": "vllm", "mode": self.settings.mode, "dtype": self.settings.dtype, "version": self.version}
        return named | {"max_model_len": self.settings.max_model_len, "extra": self.settings.extra}


class ServerEngine(_VLLM):
    """One `vllm serve` for each replica, started at the first request and supervised until `close`."""

    def __init__(self, settings: VLLMSettings, model: ModelFolder, work: Path | None) -> None:
        super().__init__(settings, model, work)
        self._own_logs = tempfile.TemporaryDirectory(prefix="openr1-logs-") if work is None else None
        logs = work if work is not None else Path(self._own_logs.name if self._own_logs else "")
        self.servers = server.vllm_servers(settings, model.folder, logs, model.probe, model.context)
        self._http: HTTPEngine | None = None

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key] = (),
        prefill: str | None = None,
    ) -> Iterator[list[Completion]]:
        """Completions as they end, from whichever server has least to do.

        Raises:
            UserError: before a server is started, what cannot be answered; or why a server ended at once.
            OutsideError: all servers ended, again and again, or do not answer.
        """
        self.model.check(requests, sampling, done, prefill)
        if self._http is None:
            self._http = self._start()
        return self._http.generate(requests, sampling, done, prefill)

    def _start(self) -> HTTPEngine:
        from openr1.engines.http_engine import HTTPEngine

        self.servers.start()
        self.version = self.servers.version()
        return HTTPEngine(
            list(self.servers.servers),
            self.servers.model,
            name="vllm",
            api="completions",
            render=self.model.render,
            decode=self.model.decode,
            api_key=self.servers.key,
            concurrency=self.settings.concurrency * self.settings.data_parallel,
            request_timeout_s=self.settings.request_timeout_s,
            retries=RETRIES,
            max_wait_s=2 * self.settings.start_timeout_s,  # a restart is under way for so long at most
            extra={"return_token_ids": True, "stop_token_ids": self.model.eos},
            watch=self.servers.watch,
        )

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
        self.servers.close()
        if self._own_logs is not None:
            self._own_logs.cleanup()


class OfflineEngine(_VLLM):
    """vLLM's engine in this process: all GPUs of `tensor_parallel` × `pipeline_parallel`, one replica."""

    def __init__(self, settings: VLLMSettings, model: ModelFolder, work: Path | None) -> None:
        super().__init__(settings, model, work)
        self.gpu = bool(split_gpus(visible_gpus(), settings)[0])
        set_environment(self.gpu)
        from vllm import EngineArgs, LLMEngine, __version__

        self.version = __version__
        self._open = lambda arguments: LLMEngine.from_engine_args(EngineArgs(**arguments))
        self._engine: Any = None

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key] = (),
        prefill: str | None = None,
    ) -> Iterator[list[Completion]]:
        """What has ended after each step of the engine; at most `concurrency` requests are in it.

        Raises:
            UserError: before the engine is loaded, what cannot be answered; or why it could not be loaded.
        """
        self.model.check(requests, sampling, done, prefill)
        if self._engine is None:
            self._engine = self._load()
        return self._steps(requests, sampling, done, prefill)

    def _load(self) -> Any:
        arguments = engine_arguments(self.settings, self.gpu, self.model.context)
        named = {"model": str(self.model.folder), "disable_log_stats": True}
        try:
            return self._open(named | arguments)
        except (ValueError, TypeError, RuntimeError) as e:
            reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
            raise UserError(f"vLLM cannot load {self.model.folder}: {reason}") from e

    def _steps(
        self, requests: Sequence[Request], sampling: SamplingSettings, done: Container[Key], prefill: str | None
    ) -> Iterator[list[Completion]]:
        from vllm.v1.engine.exceptions import EngineDeadError

        missing = (r for r in requests if r.key not in done)
        running: dict[str, tuple[Request, float]] = {}
        names: dict[str, str] = {}  # the engine's own name of a request, to abort it
        try:
            while True:
                for request in islice(missing, self.settings.concurrency - len(running)):
                    name = f"{request.prompt_id}-{request.sample_index}"
                    running[name] = (request, time.perf_counter())
                    names[name] = self._add(name, request, sampling, prefill)
                if not running:
                    return
                ended = []
                for output in self._engine.step():
                    if output.finished:
                        request, began = running.pop(output.request_id)
                        del names[output.request_id]
                        ended.append(self._completion(request, output, prefill, time.perf_counter() - began))
                if ended:
                    yield ended
        except EngineDeadError as e:
            raise OutsideError(
                f"vLLM's engine ended ({e}); what is committed is kept, the same command goes on"
            ) from e
        finally:
            if running and self._engine is not None:
                self._engine.abort_request(list(names.values()), internal=True)

    def _add(self, name: str, request: Request, sampling: SamplingSettings, prefill: str | None) -> str:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        greedy = sampling.temperature == 0
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=1.0 if greedy else sampling.top_p,
            top_k=0 if greedy or sampling.top_k is None else sampling.top_k,
            seed=None if greedy else request.seed,
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=self.model.eos,
            detokenize=False,  # it is done here
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        ids = self.model.render(request.messages, prefill)
        return str(self._engine.add_request(name, {"prompt_token_ids": ids}, params))

    def _completion(self, request: Request, output: Any, prefill: str | None, seconds: float) -> Completion:
        reply = output.outputs[0]
        end = ENDS.get(reply.finish_reason, "error")
        return Completion(
            prompt_id=request.prompt_id,
            sample_index=request.sample_index,
            text="" if end == "error" else (prefill or "") + self.model.decode(reply.token_ids),
            finish_reason=end,
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(reply.token_ids),
            seed=request.seed,
            error=f"vLLM ended the request with {reply.finish_reason}" if end == "error" else None,
            seconds=seconds,
            finished_at=now(),
        )

    def close(self) -> None:
        if self._engine is None:
            return
        core = getattr(self._engine, "engine_core", None)
        if core is not None:
            core.shutdown()
        self._engine = None
