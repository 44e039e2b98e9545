"""What is already in a repository stays: cards are merged, hand-written words kept, no config lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from openr1.errors import UserError

BEGIN = "<!-- written by openr1 publish; what stands outside of these two lines is kept -->"
END = "<!-- end of what openr1 publish wrote -->"
RULE = "---\n"


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """(front matter, body). Raises UserError where the front matter is no YAML mapping."""
    if not text.startswith(RULE):
        return {}, text
    head, rule, body = text[len(RULE) :].partition("\n---")
    if not rule:
        raise UserError("README.md: its front matter begins with --- and does not end; mend it on the Hub first")
    try:
        front = yaml.safe_load(head)
    except yaml.YAMLError as e:
        raise UserError(f"README.md: its front matter is not YAML ({str(e).splitlines()[0]}); mend it first") from e
    if not isinstance(front or {}, dict):
        raise UserError("README.md: its front matter is no mapping of keys; mend it on the Hub first")
    return dict(front or {}), body.partition("\n")[2].lstrip("\n")


def write_card(front: Mapping[str, Any], body: str) -> str:
    head = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    return f"{RULE}{head}{RULE}\n{body.strip()}\n"


def merge_cards(theirs: str, ours: str, gone: Collection[str] = ()) -> str:
    """`ours` laid over the card that is there: its own part of the body is replaced, all other words stay.

    `gone` names configs of an earlier publication whose files are taken away.
    """
    if not theirs.strip():
        return ours
    (their_front, their_body), (our_front, our_body) = split_card(theirs), split_card(ours)
    if gone and isinstance(their_front.get("configs"), list):
        left = [c for c in their_front["configs"] if not (isinstance(c, dict) and c.get("config_name") in gone)]
        their_front["configs"] = left
    if BEGIN in their_body:  # what we said of another model, a checkpoint's or the final one's
        their_front.pop("model-index", None)
    return write_card(merge_front(their_front, our_front), _merge_body(their_body, our_body))


def merge_front(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of both; where both have one, lists are united, configs are merged by name, and other values are ours,
    except a licence that a person has set where we know none."""
    merged = {**theirs, **ours}
    for key, value in theirs.items():
        if key == "configs":
            merged[key] = merge_configs(value, ours.get(key) or [])
        elif isinstance(value, list) and isinstance(ours.get(key), list):
            merged[key] = list(dict.fromkeys([*value, *ours[key]]))
    if ours.get("license") == "unknown" and theirs.get("license"):
        merged["license"] = theirs["license"]
    if isinstance(theirs.get("size_categories"), list) and isinstance(ours.get("size_categories"), list):
        merged["size_categories"] = ours["size_categories"]
    return merged


def merge_configs(theirs: Sequence[Any], ours: Sequence[Any]) -> list[dict[str, Any]]:
    """By config_name: ours take the place of theirs, theirs come first, and only one is the default."""
    configs = {str(c["config_name"]): dict(c) for c in theirs if isinstance(c, dict) and "config_name" in c}
    already = next((n for n, c in configs.items() if c.get("default")), None)
    for config in ours:
        configs[str(config["config_name"])] = dict(config)
    default = already if already in configs else next((n for n, c in configs.items() if c.get("default")), None)
    for name, config in configs.items():
        config.pop("default", None)
        if name == default:
            config["default"] = True
    return list(configs.values())


def _merge_body(theirs: str, ours: str) -> str:
    """Our part (between the two lines) in the place of an earlier one, or below what a person wrote."""
    mine = ours[ours.index(BEGIN) : ours.index(END) + len(END)]
    before, begin, rest = theirs.partition(BEGIN)
    if not begin:
        return f"{theirs.rstrip()}\n\n{mine}"
    _, end, after = rest.partition(END)
    return f"{before}{mine}{after if end else ''}"


def merge_provenance(theirs: Mapping[str, Any], ours: Mapping[str, Any], there: Sequence[str]) -> dict[str, Any]:
    """The publications of both; an earlier one lasts as long as a file of it is `there` and is not ours."""
    (mine,) = ours["publications"]
    kept = []
    for other in theirs.get("publications") or []:
        files = {p: f for p, f in (other.get("files") or {}).items() if p in there and p not in mine["files"]}
        if files and other.get("name") != mine["name"]:
            kept.append({**other, "files": files})
    return {**ours, "publications": sorted([*kept, mine], key=lambda p: str(p["name"]))}
