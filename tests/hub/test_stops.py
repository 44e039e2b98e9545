"""What stops a publication, wherever it is planted, and what licences allow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from openr1.cli import run_cli
from openr1.errors import UserError
from openr1.hub import Publication, publish_folder
from openr1.hub.licences import Origin, choose_licence
from openr1.hub.merge import BEGIN, END, merge_cards, merge_configs, merge_provenance, split_card
from openr1.hub.provenance import without_paths

from .conftest import STAGES, RunFolder, message

PLANTED = {
    "token": ("hf_" + "aB3" * 12, "Hugging Face token"),
    "AWS key": ("AKIA" + "ABCD1234EFGH5678", "AWS access key"),
    "private key": ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
    "e-mail list": ("ann@mail.org bo@mail.org cy@mail.org dee@mail.org", "list of e-mail addresses a…@mail.org"),
    "home path": ("/home/ada/secret/plan.txt", "home path"),
}
# found by detect-secrets alone: no shape of ours has these
THEIRS = {
    "Stripe Access Key": "sk_live_" + "a1B2" * 6,
    "SendGrid API Key": "SG." + "a" * 22 + "." + "b" * 43,
    "GitLab Token": "glpat-" + "aB3dEfGhIjKlMnOpQrSt",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0." + "c2lnbmF0dXJl",
}


def plant(made: RunFolder, where: str, text: str) -> None:
    if where == "dataset":
        made.curate([message("2"), message(text)])
    elif where == "card":  # the recipe's description is the first paragraph of it
        path = made.folder / "run.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"description": text}))
    elif where == "config":
        made.done("generate", {}, settings={"k": 4, "prefill": text})
    else:
        log = made.folder / "verify" / "logs" / "attempt_1" / "stage.log"
        log.parent.mkdir(parents=True)
        log.write_text(f"one line\n{text}\n")


@pytest.mark.parametrize("where", ["dataset", "card", "config", "log"])
@pytest.mark.parametrize("what", sorted(PLANTED))
def test_it_stops_wherever_it_is_planted_and_is_masked(
    made: RunFolder, tmp_path: Path, where: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, said = PLANTED[what]
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    plant(made, where, text)
    with pytest.raises(UserError) as caught:
        publish_folder(made.folder, Publication("me/x", "dataset", logs=where == "log"), tmp_path / "out")
    assert said in str(caught.value) and not (tmp_path / "out").exists()
    if what not in ("home path", "private key"):
        assert text not in str(caught.value) and text.split()[0] not in str(caught.value)


def test_a_credential_in_a_log_that_stays_stops_it_and_a_path_there_does_not(made: RunFolder, tmp_path: Path) -> None:
    plant(made, "log", PLANTED["home path"][0])
    publish_folder(made.folder, Publication("me/x", "dataset"), tmp_path / "out")
    (made.folder / "verify" / "logs" / "attempt_1" / "stage.log").write_text(PLANTED["token"][0])
    with pytest.raises(UserError, match="a log that stays here"):
        publish_folder(made.folder, Publication("me/x", "dataset"), tmp_path / "out")


@pytest.mark.parametrize("what", sorted(THEIRS))
def test_the_detectors_of_detect_secrets_are_asked_too(made: RunFolder, tmp_path: Path, what: str) -> None:
    made.curate([message(f"use {THEIRS[what]} here")])
    with pytest.raises(UserError, match=what):
        publish_folder(made.folder, Publication("me/x", "dataset"), tmp_path / "out")


def test_a_list_of_addresses_may_be_allowed_and_is_counted(made: RunFolder, tmp_path: Path) -> None:
    made.curate([message(PLANTED["e-mail list"][0]), message("call +49 30 1234 5678, DE89 3704 0044 0532 0130 00")])
    plan = publish_folder(made.folder, Publication("me/x", "dataset", personal=True), tmp_path / "out")
    assert plan.personal == {"e-mail addresses": 4, "phone numbers": 1, "IBANs": 1}
    assert "4 e-mail addresses, 1 phone numbers, 1 IBANs" in (tmp_path / "out" / "README.md").read_text()


def test_paths_of_this_machine_are_taken_out_of_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    said = without_paths({"a": ["path=/data/big/x.jsonl", "/home/ada/y"], "b": "https://example.org/a/b", "c": 1})
    assert said == {"a": ["path=…/x.jsonl", "~/y"], "b": "https://example.org/a/b", "c": 1}


# ----------------------------------------------------------------------------------------------------------- licences
def origins(**licences: str) -> list[Origin]:
    return [Origin("prompts", "dataset", f"org/{name}", "abc", licence) for name, licence in licences.items()]


@pytest.mark.parametrize(
    ("licences", "asked", "chosen"),
    [
        ({"a": "mit", "b": "apache-2.0"}, None, "apache-2.0"),
        ({"a": "mit", "b": "cc-by-4.0"}, None, "cc-by-4.0"),
        ({"a": "mit", "b": "cc-by-sa-4.0"}, None, "cc-by-sa-4.0"),
        ({"a": "cc-by-nc-4.0", "b": "cc-by-nc-sa-4.0"}, None, "cc-by-nc-sa-4.0"),
        ({"a": "cc-by-nc-4.0"}, "cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ({"a": "unknown"}, None, "unknown"),
        ({"a": "unknown"}, "mit", "mit"),
    ],
)  # fmt: skip
def test_the_licence_honours_all_sources(licences: dict[str, str], asked: str | None, chosen: str) -> None:
    assert choose_licence(origins(**licences), asked, public=False) == chosen


@pytest.mark.parametrize(
    ("licences", "asked", "public", "said"),
    [
        ({"a": "cc-by-nc-nd-4.0"}, None, False, "allows no derivatives"),
        ({"a": "cc-by-sa-4.0", "b": "cc-by-nc-4.0"}, None, False, "cannot be honoured together"),
        ({"a": "cc-by-sa-4.0"}, "apache-2.0", False, "org/a is under cc-by-sa-4.0, which does not allow it"),
        ({"a": "cc-by-nc-4.0"}, "mit", False, "does not allow it"),
        ({"a": "unknown"}, None, True, "the licence of org/a at abc .* is not known"),
    ],
)
def test_a_licence_conflict_is_a_reason(licences: dict[str, str], asked: str | None, public: bool, said: str) -> None:
    with pytest.raises(UserError, match=said):
        choose_licence(origins(**licences), asked, public)


# ------------------------------------------------------------------------------------------------------------ merging
def test_words_of_others_stay_and_ours_are_replaced() -> None:
    ours = f"---\nlicense: unknown\ntags: [openr1]\n---\n\n# x\n\n{BEGIN}\nnew\n{END}\n"
    theirs = f"---\nlicense: mit\ntags: [mine]\nlanguage: en\n---\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"
    front, body = split_card(merge_cards(theirs, ours))
    assert front == {"license": "mit", "tags": ["mine", "openr1"], "language": "en"}
    assert "old" not in body and body.index("Before.") < body.index("new") < body.index("After.")
    assert merge_cards(merge_cards(theirs, ours), ours) == merge_cards(theirs, ours)


def test_no_config_is_lost_and_one_is_the_default() -> None:
    theirs = [{"config_name": "a", "default": True}, {"config_name": "b", "data_files": "old"}]
    merged = merge_configs(theirs, [{"config_name": "b", "data_files": "new", "default": True}, {"config_name": "c"}])
    assert merged == [
        {"config_name": "a", "default": True}, {"config_name": "b", "data_files": "new"}, {"config_name": "c"},
    ]  # fmt: skip


def test_a_card_that_cannot_be_read_is_one_line() -> None:
    for text in ("---\na: [\n---\n", "---\nno end", "---\n- a list\n---\n"):
        with pytest.raises(UserError, match=r"README\.md: its front matter") as caught:
            split_card(text)
        assert len(caught.value.problems) == 1


def test_provenance_of_others_lasts_as_long_as_their_files() -> None:
    theirs = {"publications": [{"name": "a", "files": {"x": 1, "gone": 1}}, {"name": "b", "files": {"y": 1}}]}
    ours = {"schema": 1, "publications": [{"name": "b", "files": {"z": 1}}]}
    merged = merge_provenance(theirs, ours, ["x", "y", "z"])
    assert [(p["name"], list(p["files"])) for p in merged["publications"]] == [("a", ["x"]), ("b", ["z"])]


# ------------------------------------------------------------------------------------------------------ the command
def test_words_that_do_not_go_are_told_at_once(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["publish", str(made.folder), "--repo", "x", "--type", "model", "--prefix", "p", "--dry-run"]
    assert run_cli(base) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert run_cli([*base, "--licence-of", "nothing"]) == 2


def test_an_empty_dataset_is_one_line(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    made.plan(STAGES)
    made.done("prompts", made.rows("prompts", "train", "prompts", []))
    words = ["publish", str(made.folder), "--stage", "prompts", "--repo", "me/x", "--type", "dataset", "--dry-run"]
    assert run_cli(words) == 1 and "no rows to publish" in capsys.readouterr().err
