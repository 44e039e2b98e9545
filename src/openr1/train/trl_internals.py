"""The one file that touches private parts of TRL and of transformers' Trainer.

It was written against the TRL minor that pyproject.toml names; what it assumes of it stands, and is tested, in
tests/train/trl_assumptions.py. What it changes:

- checkpoints are written aside, vouched for and renamed (the trainer writes them in place), and pruned by us;
- GRPO keeps its micro-step counter and its generation buffer in the checkpoint: TRL forgets both, so that a resume in
  the middle of a generation cycle would diverge at once;
- the order of the data is a function of (seed, epoch): the samplers' generators run on from epoch to epoch and are
  in no checkpoint, so that a resume in the second epoch would repeat the order of the first;
- the advantages that the trainer computed are handed out with the rollouts, and generation is timed;
- a batch of uneven lengths goes through the model in two parts, each padded to its own length: the same sums, less
  padding (half of a step's time is padding when short answers and long traces meet);
- vLLM's engine gets the trainer's dtype and no port that two trainings would share, each row a seed of its own; a
  server our key, a request for each row, and, where the trainer has no GPU, its weights through a file;
- among several processes a checkpoint is one folder that appears when every rank has written its part;
- the limit of a completion's tokens may change at a generation, and a reference model that is refreshed is kept;
- nothing is reported to anyone: the telemetry call and the model card are left out.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from requests import RequestException
from torch import distributed
from trl import GRPOTrainer, SFTTrainer
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient
from trl.models.utils import unwrap_model_for_generation

from openr1.errors import OutsideError, UserError
from openr1.train import checkpoints
from openr1.train.account import Account
from openr1.train.curriculum import PromptOrder
from openr1.train.lengths import split_by_length
from openr1.train.parallel import World, save_parallel
from openr1.train.reference import load_reference, save_reference
from openr1.train.samplers import EpochSampler, OrderedSampler
from openr1.train.settings import ParallelSettings
from openr1.train.vllm_rollouts import VLLMRollouts, ask_server, refuse_copies, seeded, weights_into

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func may change; trl_assumptions.py watches it

BUFFER = "generation_buffer.pt"
REQUESTS = 64  # that a vLLM server has of a generation at a time; TRL's client keeps as many connections


class _WholeCheckpoints:
    """Mixed into a TRL trainer: atomic checkpoints with the stage's account, and silence."""

    account: Account
    parallel: ParallelSettings
    _staging: Path | None = None

    @property
    def world(self) -> World:
        """The processes that train this model."""
        return World.of(self.args)  # type: ignore[attr-defined]

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)  # type: ignore[misc]
        return EpochSampler(sampler, self) if hasattr(sampler, "generator") else sampler

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        world = self.world
        with self.account.phase("save"):
            work = Path(self.args.output_dir)  # type: ignore[attr-defined]
            if world.main:
                shutil.rmtree(work / checkpoints.STAGING, ignore_errors=True)
            world.barrier()
            self._staging = work / checkpoints.STAGING
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
            finally:
                staging, self._staging = self._staging, None
            staged = staging / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
            self._save_extra(staged)
            world.barrier()
            if world.main:
                self.account.save(staged)
                save_parallel(staged, self.parallel, world.size, self._in_cycle)
                checkpoints.commit(staged, work)
                shutil.rmtree(staging)
                checkpoints.prune(work, self.keep)  # type: ignore[attr-defined]
            world.barrier()

    @property
    def _in_cycle(self) -> bool:
        """Whether the next micro-step goes on with what was generated before."""
        return False

    def _save_extra(self, folder: Path) -> None:
        """What each rank of a trainer must keep beyond what transformers saves."""

    def _send_telemetry(self) -> None:
        """Nothing leaves the machine unasked."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Cards are written when a model is published, from manifests."""


class WholeSFTTrainer(_WholeCheckpoints, SFTTrainer):
    """TRL's SFTTrainer with checkpoints that survive kill -9. `keep` is how many of them stay."""

    def __init__(
        self, *args: Any, account: Account, keep: int | None, parallel: ParallelSettings, **kwargs: Any
    ) -> None:
        self.account, self.keep, self.parallel = account, keep, parallel
        super().__init__(*args, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """One micro-batch; uneven lengths in two parts, whose gradients add up because the loss is a sum over the
        tokens of the whole step (`num_items_in_batch`)."""
        mask = inputs.get("attention_mask")  # absent when sequences are packed without padding
        tokens = int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        self.account.count(trained=self.world.total(tokens))
        parts = self._parts(inputs) if mask is not None and num_items_in_batch is not None else [inputs]
        loss = sum(super(WholeSFTTrainer, self).training_step(model, part, num_items_in_batch) for part in parts)
        if len(parts) > 1:
            self._merge_metrics([int((part["labels"][:, 1:] != -100).sum()) for part in parts])
        return loss

    def _parts(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        lengths = inputs["attention_mask"].sum(1)
        rows = split_by_length(lengths) if self.accelerator.num_processes == 1 and not self.aux_loss_enabled else []
        if len(rows) < 2:
            return [inputs]
        return [{k: v[r, : int(lengths[r].max())] for k, v in inputs.items()} for r in rows]

    def _merge_metrics(self, weights: list[int]) -> None:
        """The parts' metrics as one entry, weighted by their trained tokens."""
        for name in ("entropy", "mean_token_accuracy"):
            column = self._metrics["train"][name]
            values, column[-len(weights) :] = column[-len(weights) :], []
            column.append(sum(v * w for v, w in zip(values, weights, strict=True)) / max(sum(weights), 1))


class ServerClient(VLLMClient):
    """TRL's client of a vLLM server: with the key of ours, a seed for each row, one line for a server that is gone,
    and weights through a file where the trainer has no GPU, which NCCL needs."""

    def __init__(self, vllm: VLLMRollouts, **given: Any) -> None:
        self.vllm = vllm
        self.micro_step: Callable[[], int] = lambda: 0
        self.headers = {"Authorization": f"Bearer {vllm.server.key}"} if vllm.server else {}
        super().__init__(**given)

    def check_server(self, total_timeout: float = 0.0, retry_interval: float = 2.0) -> None:
        if self.vllm.server is not None:  # it has answered already, and is not to be reached through a proxy
            self.session.trust_env = False
            return
        try:
            super().check_server(total_timeout, retry_interval)
        except RequestException as e:
            raise OutsideError(f"no vLLM server answers at {self.base_url}; see train.vllm_server_base_url") from e

    def _get(self, url: str, **given: Any) -> Any:
        return self._ask("GET", url, **given)

    def _post(self, url: str, **given: Any) -> Any:
        return self._ask("POST", url, **given)

    def _ask(self, verb: str, url: str, **given: Any) -> Any:
        return ask_server(self.session, verb, url, headers=self.headers, **given)

    def generate(  # type: ignore[override]
        self,
        prompts: Any,
        features: Any = None,
        n: int = 1,
        generation_kwargs: dict[str, Any] | None = None,
        **sampling: Any,
    ) -> dict[str, Any]:
        """`n` completions of each prompt, a request for each with a seed of its own."""
        rows = [ids for ids in prompts for _ in range(n)]
        seeds = self.vllm.row_seeds(self.micro_step(), 0, len(rows))
        draw = super().generate

        def one(ids: list[int], seed: int) -> dict[str, Any]:
            return draw([ids], generation_kwargs=(generation_kwargs or {}) | {"seed": seed}, **sampling)

        with ThreadPoolExecutor(min(len(rows), REQUESTS)) as pool:
            replies = list(pool.map(one, rows, seeds))
        joined = {name: [row for reply in replies for row in reply[name]] for name in replies[0]}
        return joined | {"prompt_ids": list(prompts)}

    def init_communicator(self, device: Any = 0) -> None:
        if self.vllm.files is None:
            super().init_communicator(device)
        elif self.vllm.server is not None:
            refuse_copies()
        else:
            raise UserError(
                "train.vllm_server_base_url: weights go to another's server by NCCL, which needs a GPU here; leave it "
                "out and a server is started beside the trainer"
            )

    def update_named_params(self, metadata: Any, named_params: Iterator[tuple[str, torch.Tensor]]) -> None:
        if self.vllm.files is None:
            super().update_named_params(metadata, named_params)
            return
        folder = self.vllm.files
        weights_into(folder, named_params)
        asked = {"method": "reload_weights", "kwargs": {"weights_path": str(folder.resolve())}}
        self._post(f"{self.base_url}/collective_rpc", json=asked)
        shutil.rmtree(folder)


@contextmanager
def _vllm_as(vllm: VLLMRollouts | None) -> Iterator[None]:
    """While a trainer is made: give vLLM's engine what TRL's arguments do not reach, and TRL our client."""
    if vllm is None:
        yield
        return
    module: Any = vllm_generation  # LLM is there wherever vLLM is installed
    engine, client = module.LLM, module.VLLMClient

    def make(**given: Any) -> Any:
        if not distributed.is_initialized():  # vLLM would meet itself at the one port that accelerate has for all
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
        made = engine(**(given | dict(vllm.engine)))
        refuse_copies()
        return made

    module.LLM = make
    module.VLLMClient = lambda **given: ServerClient(vllm, **given)
    try:
        yield
    finally:
        module.LLM, module.VLLMClient = engine, client


class WholeGRPOTrainer(_WholeCheckpoints, GRPOTrainer):
    """TRL's GRPOTrainer with checkpoints that survive kill -9 at any step, and rollouts handed out.

    `on_scored` receives the advantages of a generation, one a completion, in the order in which the reward function
    saw them.
    """

    def __init__(
        self,
        *args: Any,
        account: Account,
        keep: int | None,
        parallel: ParallelSettings,
        on_scored: Callable[[list[float]], None],
        vllm: VLLMRollouts | None = None,
        length_at: Callable[[int], int | None] | None = None,
        order: PromptOrder | None = None,
        **kwargs: Any,
    ) -> None:
        self.account, self.keep, self.parallel, self.on_scored = account, keep, parallel, on_scored
        self.vllm, self.length_at, self.order = vllm, length_at, order
        with _vllm_as(vllm):
            super().__init__(*args, **kwargs)
        if vllm is not None:
            self._take_over(vllm)

    def _take_over(self, vllm: VLLMRollouts) -> None:
        """Ends, seeds and times of vLLM's completions; loading its engine has seeded this process's generators."""
        sampler: Any = self.vllm_generation
        sampler.generation_kwargs = {"stop_token_ids": list(vllm.ends)} | sampler.generation_kwargs
        if self.vllm_mode == "colocate":
            sampler.generation_kwargs = {"detokenize": False} | sampler.generation_kwargs
            group = self.args.process_index // self.vllm_tensor_parallel_size  # its members draw the same rows
            draw = sampler.llm.generate
            sampler.llm.generate = seeded(draw, lambda rows: vllm.row_seeds(self.micro_step, group * rows, rows))
        elif self.world.main:
            sampler.vllm_client.micro_step = lambda: self.micro_step
        self._time_sync()
        set_seed(self.args.seed, device_specific=True)

    def _time_sync(self) -> None:
        """Count the seconds in which weights go to vLLM, a part of generation to TRL, to a phase of their own."""
        sampler: Any = self.vllm_generation
        send = sampler.sync_weights

        def timed() -> None:
            with self.account.phase("sync"):
                send()

        sampler.sync_weights = timed

    @property
    def sampler_elsewhere(self) -> bool:
        """Whether completions are drawn by other processors than those that train."""
        return bool(self.use_vllm and self.vllm_mode == "server")

    @property
    def generation(self) -> dict[str, str]:
        """Who draws the completions, for the manifest; with vLLM, in what and how the distance is corrected."""
        if self.vllm is None:
            return {"rollouts": "openr1" if self.rollout_func is not None else "trl"}
        arguments: Any = self.args
        found = {"rollouts": "vllm", "vllm_mode": self.vllm_mode, "vllm_dtype": self.vllm.dtype}
        if self.vllm_mode == "server":
            found["weights_by"] = "nccl" if self.vllm.files is None else "file"
        corrected = arguments.vllm_importance_sampling_correction
        return found | {"importance_sampling": arguments.vllm_importance_sampling_mode if corrected else "off"}

    @contextmanager
    def whole_model(self) -> Iterator[Any]:
        """The model as every process can use it by itself: unwrapped, on ZeRO-3 with all parameters gathered."""
        if self.parallel.kind == "zero3":
            with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
                yield model
        else:
            yield self.accelerator.unwrap_model(self.model)

    def _generate(self, prompts: list[Any]) -> Any:
        started, sync = time.perf_counter(), self.account.phases.get("sync", 0.0)
        try:
            return super()._generate(prompts)
        finally:
            sync = self.account.phases.get("sync", 0.0) - sync
            self.account.spend("generate", time.perf_counter() - started - sync)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        return sampler if self.order is None else OrderedSampler(sampler.sampler, self, self.order)

    def _limit(self, tokens: int | None) -> None:
        """Set the most tokens of a completion, for generation and for the losses that divide by it."""
        self.max_completion_length = tokens
        for sampler, name in (("vllm_generation", "max_completion_length"), ("generation_config", "max_new_tokens")):
            if hasattr(self, sampler):
                setattr(getattr(self, sampler), name, tokens)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.length_at is not None:
            self._limit(self.length_at(self.state.global_step + 1))
        output = super()._generate_and_score_completions(inputs)
        self.on_scored(output["advantages"].tolist())
        return output

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **rest: Any,
    ) -> Any:
        """(log-probabilities, entropies, aux loss) as TRL's, rows of uneven length in two parts."""
        score = super()._get_per_token_logps_and_entropies
        whole = (batch_size or len(input_ids)) >= len(input_ids)
        plain = self.accelerator.num_processes == 1 and not any(
            v is not None and v is not False for v in rest.values()
        )
        lengths_B = attention_mask[:, -logits_to_keep:].sum(1)
        rows = split_by_length(lengths_B + attention_mask.shape[1] - logits_to_keep) if whole and plain else []
        if len(rows) < 2:
            return score(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy=compute_entropy, **rest
            )
        outputs = []
        for part in rows:
            keep = max(int(lengths_B[part].max()), 1)
            width = attention_mask.shape[1] - logits_to_keep + keep
            logps, entropies, _ = score(
                model, input_ids[part, :width], attention_mask[part, :width], keep, compute_entropy=compute_entropy
            )
            outputs.append(
                [torch.nn.functional.pad(x, (0, logits_to_keep - keep)) for x in (logps, entropies) if x is not None]
            )
        back = torch.cat(rows).argsort()
        joined = [torch.cat(columns)[back] for columns in zip(*outputs, strict=True)]
        return joined[0], joined[1] if compute_entropy else None, None

    def _save_extra(self, folder: Path) -> None:
        kept = {"step": self._step, "buffer": self._buffered_inputs if self._in_cycle else None}
        torch.save(kept | {"limit": self.max_completion_length}, folder / self._buffer_name)
        save_reference(self, folder)

    @property
    def _buffer_name(self) -> str:
        return BUFFER if self.world.size == 1 else f"{Path(BUFFER).stem}_{self.world.rank}.pt"

    @property
    def micro_step(self) -> int:
        """Micro-batches trained on so far; kept across resumes."""
        return int(self._step)

    @property
    def _in_cycle(self) -> bool:
        """Whether the next micro-step still consumes completions that were generated before."""
        arguments: Any = self.args
        return self._step % (arguments.steps_per_generation * self.num_iterations) != 0

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            own = Path(checkpoint) / self._buffer_name
            if not own.exists():  # other processes wrote it, between two generations: all parts are alike
                own = next(Path(checkpoint).glob(f"{Path(BUFFER).stem}*.pt"))
            kept = torch.load(own, map_location=self.args.device, weights_only=True)
            self._step, self._buffered_inputs = kept["step"], kept["buffer"]
            if self.length_at is not None:
                self._limit(kept["limit"])
            load_reference(self, Path(checkpoint))
