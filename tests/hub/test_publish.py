"""publish_folder through its public door: what would be sent, what the card says, and what stops it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from openr1.errors import UserError
from openr1.hub import Publication, PublishPlan, publish_folder
from openr1.hub.card import size_category
from openr1.hub.scan import PATTERNS, scan_folder, scan_text
from openr1.hub.settings import repo_problem

from .conftest import STAGES, RunFolder, message

SECRETS = {
    "Hugging Face token": "hf_" + "aB3" * 12,
    "AWS access key": "AKIA" + "ABCD1234EFGH5678",
    "Anthropic key": "sk-ant-" + "api03-" + "x" * 30,
    "OpenAI key": "sk-proj-" + "y" * 40,
    "GitHub token": "ghp_" + "a" * 36,
    "Google API key": "AIza" + "b" * 35,
    "Slack token": "xoxb-" + "1234567890-abc",
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "password in a URL": "https://me:hunter22@example.org",
    "W&B key": "WANDB_API_KEY=" + "0a" * 20,
    "AWS secret key": "aws_secret_access_key = " + "aB3/" * 10,
    "home path": "/home/ada/data/x.jsonl",
}


def folder(
    made: RunFolder, out: Path, type: str, stage: str | None = None, repo: str = "me/traces", **more: Any
) -> PublishPlan:
    return publish_folder(made.folder, Publication(repo, type, stage, **more), out)  # type: ignore[arg-type]


def front_matter(card: str) -> dict[str, object]:
    assert card.startswith("---\n")
    return yaml.safe_load(card[4:].split("\n---\n", 1)[0])


def test_a_dataset_folder_has_configs_card_and_provenance(made: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = folder(made, out, "dataset", None, "me/traces")
    assert plan.stage == "curate" and plan.rows == {"sft": {"train": 2}, "rl": {"train": 1}}
    assert [f.path for f in plan.files] == [
        "README.md", "provenance.json", "rl/train-00000-of-00001.parquet", "sft/train-00000-of-00001.parquet",
    ]  # fmt: skip
    for file in plan.files:
        data = (out / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert plan.bytes == sum(f.bytes for f in plan.files)
    front = front_matter((out / "README.md").read_text())
    assert front["license"] == "apache-2.0" and front["size_categories"] == ["n<1K"]
    first, second = front["configs"]  # type: ignore[misc]
    assert first == {
        "config_name": "sft",
        "data_files": [{"split": "train", "path": "sft/train-*.parquet"}],
        "default": True,
    }
    assert second["config_name"] == "rl" and "default" not in second
    assert pq.read_table(out / "sft/train-00000-of-00001.parquet").num_rows == 2


def test_the_card_is_what_the_datasets_library_reads(made: RunFolder, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder(made, tmp_path / "out", "dataset", None, "me/traces")
    for config, rows in ((None, 2), ("sft", 2), ("rl", 1)):
        loaded = datasets.load_dataset(str(tmp_path / "out"), config, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == rows


def test_the_card_says_where_it_comes_from(made: RunFolder, tmp_path: Path) -> None:
    folder(made, tmp_path / "out", "dataset", None, "me/traces")
    card = (tmp_path / "out" / "README.md").read_text()
    for fact in (
        "task `arithmetic`", "4 samples a prompt", "temperature 1.0", "model `sft/model`", "graded by `math 3`",
        "correct 5 (25.0%)", "wrong: 15", "no answer: 3", "openr1 run recipe=tiny run=made-up", "trl 1.16.0", "c0ffee",
        "public benchmarks was not checked", "One seed (7)",
    ):  # fmt: skip
        assert fact in card, fact
    assert "secret-host" not in card


def test_the_command_of_the_card_publishes_nothing(made: RunFolder, tmp_path: Path) -> None:
    made.plan({**STAGES, "send": {"kind": "publish", "repo": "me/traces", "inputs": {"sft": "curate/sft"}}})
    made.curate([message("2")], command=["openr1", "run", "recipe=tiny", "stages.send.repo=me/traces", "seed=7"])
    folder(made, tmp_path / "out", "dataset", None, "me/traces")
    assert "openr1 run recipe=tiny seed=7\n" in (tmp_path / "out" / "README.md").read_text()


def test_provenance_holds_the_lineage_and_no_host_or_home(
    made: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    made.done("generate", {}, settings={"k": 4, "model": {"source": "/home/ada/models/x"}})
    folder(made, tmp_path / "out", "dataset", None, "me/traces")
    text = (tmp_path / "out" / "provenance.json").read_text()
    record = json.loads(text)
    (record,) = record["publications"]
    assert [s["stage"] for s in record["stages"]] == ["prompts", "sft", "generate", "verify", "curate"]
    assert record["files"]["sft/train-00000-of-00001.parquet"]["bytes"] > 0
    assert "secret-host" not in text and "/home/ada" not in text and "~/models/x" in text


def test_rows_from_an_unknown_source_have_an_unknown_licence(made: RunFolder, tmp_path: Path) -> None:
    made.done("prompts", {}, settings={"task": {"name": "hub", "id": "org/data", "revision": "abc"}})
    folder(made, tmp_path / "out", "dataset", None, "me/traces")
    card = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(card)["license"] == "unknown"
    assert "| `org/data` | dataset | abc | not known to openr1 |" in card and "settle it before sharing" in card


def test_a_model_folder_has_its_files_and_its_scores(made: RunFolder, tmp_path: Path) -> None:
    (made.folder / "grpo" / "model" / "training_args.bin").write_bytes(b"a pickle")
    plan = folder(made, tmp_path / "out", "model", None, "me/tiny")
    assert plan.stage == "grpo"
    assert {f.path for f in plan.files} == {"README.md", "provenance.json", "config.json", "model.safetensors"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(card)["library_name"] == "transformers"
    assert "50.0% (40.0 to 60.0)" in card and "801,664 parameters" in card


def test_benchmarks_stand_beside_their_reference(made: RunFolder, tmp_path: Path) -> None:
    made.plan(STAGES | {"benchmark": {"kind": "benchmark", "inputs": {"model": "grpo/model"}}})
    reference = {"value": 0.555, "verdict": "agrees", "source": "the paper"}
    score = {"accuracy": 0.52, "low": 0.41, "high": 0.63, "n": 30, "k": 4, "reference": reference}
    made.done("benchmark", {}, kind="benchmark", results={"model": "grpo", "benchmarks": {"aime24": score}})
    folder(made, tmp_path / "out", "model", None, "me/tiny")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| aime24 (n = 30, k = 4) | 52.0% (41.0 to 63.0) | 55.5% (the paper) | agrees |" in card
    (index,) = front_matter(card)["model-index"]  # type: ignore[misc]
    assert {r["dataset"]["name"]: r["metrics"][0]["value"] for r in index["results"]}["aime24"] == 0.52


def test_a_model_that_nobody_measured_says_so(made: RunFolder, tmp_path: Path) -> None:
    folder(made, tmp_path / "out", "model", "sft", "me/tiny")
    assert "holds no finished evaluation" in (tmp_path / "out" / "README.md").read_text()


def test_several_to_choose_from_are_named(made: RunFolder, tmp_path: Path) -> None:
    control = {"kind": "grpo", "inputs": {"model": "sft/model"}}
    made.plan(STAGES | {"grpo_control": control, "curate_more": {"kind": "curate", "inputs": {}}})
    made.done("grpo_control", made.model("grpo_control"), kind="grpo")
    with pytest.raises(UserError, match="grpo, grpo_control; name one with --stage"):
        folder(made, tmp_path / "out", "model", None, "me/tiny")
    with pytest.raises(UserError, match="curate, curate_more; name one"):
        folder(made, tmp_path / "out", "dataset", None, "me/tiny")
    assert folder(made, tmp_path / "out", "model", "grpo_control", "me/tiny").stage == "grpo_control"


@pytest.mark.parametrize(
    ("stage", "type", "said"),
    [
        ("curat", "dataset", "did you mean curate"),
        ("curate", "model", "stages that do: sft, grpo"),
        ("grpo", "dataset", "stages that do: prompts, curate"),
    ],
)
def test_a_stage_that_cannot_be_published_is_a_sentence(
    made: RunFolder, tmp_path: Path, stage: str, type: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        folder(made, tmp_path / "out", type, stage, "me/x")  # type: ignore[arg-type]


def test_a_stage_that_is_not_done_or_has_no_rows_is_refused(made: RunFolder, tmp_path: Path) -> None:
    made.done("prompts", made.rows("prompts", "train", "prompts", []))
    with pytest.raises(UserError, match="no rows to publish"):
        folder(made, tmp_path / "out", "dataset", "prompts", "me/x")
    (made.folder / "curate" / "manifest.json").unlink()
    with pytest.raises(UserError, match="curate of run made-up is not run"):
        folder(made, tmp_path / "out", "dataset", None, "me/x")


@pytest.mark.parametrize("what", sorted(SECRETS))
def test_a_planted_secret_in_a_row_stops_it_and_is_masked(made: RunFolder, tmp_path: Path, what: str) -> None:
    secret = SECRETS[what]
    out = tmp_path / "out"
    folder(made, out, "dataset", None, "me/x")
    before = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    made.curate([message("2"), message(f"the thing is\n{secret} ok")])
    with pytest.raises(UserError) as caught:
        folder(made, out, "dataset", None, "me/x")
    first = caught.value.problems[0]
    assert "row 1, column messages" in first and what in first
    if what not in ("home path", "private key"):
        assert secret not in str(caught.value)
    assert before == {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_secret_in_a_setting_or_a_model_file_stops_it(made: RunFolder, tmp_path: Path) -> None:
    made.done("prompts", {}, settings={"task": {"name": "local", "path": "/srv/x", "note": SECRETS["AWS access key"]}})
    with pytest.raises(UserError, match=r"provenance\.json \(line \d+\): AWS access key AKIA…20 characters"):
        folder(made, tmp_path / "out", "dataset", None, "me/x")
    (made.folder / "grpo" / "model" / "chat_template.jinja").write_text("\n" + SECRETS["GitHub token"])
    with pytest.raises(UserError, match=r"chat_template\.jinja \(line 2\)"):
        folder(made, tmp_path / "out", "model", "grpo", "me/x")


def test_many_findings_are_counted_not_all_listed(made: RunFolder, tmp_path: Path) -> None:
    made.curate([message(SECRETS["OpenAI key"])] * 50)
    with pytest.raises(UserError) as caught:
        folder(made, tmp_path / "out", "dataset", None, "me/x")
    assert len(caught.value.problems) == 22 and "30 more" in caught.value.problems[20]


@pytest.mark.parametrize(
    "text",
    [
        "the masks of a task-force risk-assessment-for-everyone-in-the-office are fine",
        "/usr/lib/python3/x, /homework/1/a, http://example.org:80/a@b, /home/",
        "hf_short AKIA12 sk-abc -----BEGIN PUBLIC KEY-----",
        "\\boxed{42} C:\\Windows\\x https://example.org/@me",
    ],
)
def test_ordinary_text_is_not_taken_for_a_secret(text: str) -> None:
    assert list(scan_text(text)) == []


def test_every_pattern_has_an_example_here() -> None:
    assert set(SECRETS) == set(PATTERNS)
    for what, secret in SECRETS.items():
        assert [w for w, _, _ in scan_text(f'x "{secret}" y')] == [what]


def test_safetensors_metadata_is_scanned_and_weights_are_not(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"from": SECRETS["home path"]}}).encode()
    weights = SECRETS["AWS access key"].encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + weights)
    assert [f.what for f in scan_folder(tmp_path).findings] == ["home path"]


@pytest.mark.parametrize("repo", ["me/traces", "org-1/R1_miniature.v2", "a/b"])
def test_valid_repository_ids(repo: str) -> None:
    assert repo_problem(repo) is None


@pytest.mark.parametrize(
    "repo",
    ["traces", "a/b/c", "/x", "me/", "me/-x", "me/x-", "me/a--b", "me/a..b", "me/x.git", "m e/x", "me/" + "x" * 95],
)
def test_bad_repository_ids_are_a_sentence(made: RunFolder, tmp_path: Path, repo: str) -> None:
    with pytest.raises(UserError, match="repo"):
        folder(made, tmp_path / "out", "dataset", repo=repo)


@pytest.mark.parametrize(("rows", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**8, "n>10M")])
def test_size_categories(rows: int, name: str) -> None:
    assert size_category(rows) == name
