"""A published recipe made small enough for a CPU: tiny models and datasets of the same architecture and columns.

What only a GPU can do is switched off, and named in GPU_ONLY; a switch that is not named there stays on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_classifier import tiny_classifier

# switched off where there is no GPU: kernels, vLLM beside the trainer, four bits
GPU_ONLY = ("use_liger_kernel", "model_init_kwargs", "use_vllm", "vllm_", "quantize")
WORDS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{"]
# a random model passes no filter of correctness or form; the steps that need no luck stay
LUCK = ("correct", "format", "language", "repetition")


def shrink(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The composed recipe with the same stages, two steps each; its files go to `folder`."""
    tree |= {"track": {"mode": "off", "project": "openr1", "entity": None}}
    tree["cluster"] = {"name": "local", "kind": "local", "workers": None, "threads": 1, "price_per_gpu_hour": 0.0}
    for name, stage in tree["stages"].items():
        stage.pop("resources", None)
        if "parallel" in stage:
            stage["parallel"] = {"kind": "single"}
        if stage.get("model"):
            stage["model"] = tiny_model(stage["model"])
        if "engine" in stage:
            stage["engine"] = {"name": "transformers", "batch_size": 8}
            stage["sampling"]["max_new_tokens"] = 8
        match stage["kind"]:
            case "prompts":
                stage["task"] = tiny_task(stage["task"], folder / f"{name}.jsonl")
                for split in stage["splits"].values():
                    split["size"] = 12
            case "sft":
                stage["train"] = tiny_train(stage["train"]) | {"max_length": 256}
            case "grpo":
                stage["train"] = tiny_rollouts(tiny_train(stage["train"]))
                stage["general_from_step"] = 1  # two steps are one generation
                for part in stage["reward"]["parts"].values():
                    tiny_part(part, folder)
            case "generate":
                stage["k"] = 2
            case "extend_context":
                stage["context"] = 1024
            case "curate":
                steps = stage["curate"]["steps"]
                stage["curate"]["steps"] = [step for step in steps if step["step"] not in LUCK]
        if stage.get("lora"):
            stage["lora"] = stage["lora"] | {"r": 2, "quantize": "none"}
    return tree


def tiny_model(model: dict[str, Any]) -> dict[str, Any]:
    """A model from scratch of the same architecture, rotary base and tying; a template that our tokenizer can end."""
    template = model.get("chat_template")
    tiny = {
        "source": "scratch", "architecture": model["architecture"], "layers": 2, "hidden": 32, "ffn": 64, "heads": 4,
        "kv_heads": 2, "context": 512, "dtype": "float32", "tie_embeddings": model["tie_embeddings"],
        "rope_theta": model["rope_theta"], "tokenizer": {"kind": "char", "words": WORDS, "byte_fallback": True},
        "chat_template": template if template in ("chatml", "chatml_think", "r1_zero") else "chatml",
    }  # fmt: skip
    if model["architecture"] == "qwen3_moe":
        tiny |= {"experts": 4, "experts_per_token": 2, "expert_ffn": 32}
    return tiny


def tiny_task(task: dict[str, Any], path: Path) -> dict[str, Any]:
    """A local task over rows with the columns that the recipe maps."""
    columns = task["columns"]
    used = {c for role, c in columns.items() if c and role != "metadata"} | set(columns.get("metadata") or [])
    rows = [{name: value for name, value in _row(i).items() if name in used} for i in range(24)]
    assert used <= set(rows[0]), used
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = {k: v for k, v in task.items() if k not in ("id", "config", "split", "revision", "name", "path")}
    return kept | {"name": "local", "path": str(path)}


def _row(i: int) -> dict[str, Any]:
    question, answer = f"What is {i} + {i + 1}?", str(2 * i + 1)
    reply = f"<think>{i} + {i + 1} = {answer}</think>\\boxed{{{answer}}}"
    return {
        "problem": question,
        "prompt": f"Tell me of the number {i}.",
        "answer": answer,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}],
        "finish_reason": "stop",
        "source": "made here",
        "num_tokens": len(reply),
        **_programs(i),
    }


def _programs(i: int) -> dict[str, Any]:
    """The columns of the datasets whose answers are programs."""
    case = {"input": str(i), "output": str(2 * i)}
    tests = [case | {"type": "stdin_stdout", "fn_name": None}]
    return {
        "problem_statement": f"Double a number, and do not print {i}.",
        "verification_info": {"language": "python", "test_cases": tests},
        "language": "python",
        "official_tests": [case],
        "generated_checker": None,
        "input_mode": "stdio",
        "interaction_format": None,
        "time_limit": 2.0,
        "memory_limit": 256.0,
    }


def tiny_part(part: dict[str, Any], folder: Path) -> None:
    """A part of the reward that counts at once, judged by a tiny model of preferences."""
    if part.get("scorer"):
        part |= {"from_step": 1, "scorer": {"kind": "classifier", "source": str(tiny_classifier(folder))}}


def tiny_train(train: dict[str, Any]) -> dict[str, Any]:
    """Two steps of two rows."""
    kept = {k: v for k, v in train.items() if not k.startswith(GPU_ONLY)}
    kept.pop("num_train_epochs", None)
    return kept | {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 2,
        "save_steps": 1,
    }


def tiny_rollouts(train: dict[str, Any]) -> dict[str, Any]:
    """Groups of two; a generation that serves several steps still does."""
    if train.get("steps_per_generation"):
        train["steps_per_generation"] = 2
    if train.get("sync_ref_model"):
        train["ref_model_sync_steps"] = 1
    return train | {"num_generations": 2, "max_completion_length": 8}
