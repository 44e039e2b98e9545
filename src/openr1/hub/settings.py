"""What a publication is asked to be, and what a repository of the Hub may be called; torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RepoType = Literal["dataset", "model"]
# outputs that make a dataset, in the order of their configs; what was dropped stays at home
DATASET_KINDS = ("sft", "rl", "all", "prompts")
PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
LONGEST = 96


@dataclass(frozen=True)
class Publication:
    """What to publish and how. `stage`: None is the only curate stage, or the last model.

    `outputs`: those of the stage that go; none named is all that can. `prefix` stands before the names of a dataset's
    configs, so that several stages share a repository. `licence` is that of the whole, `licences` those of sources by
    id. `logs` sends the logs of the stages too. `personal`: go on although a list of e-mail addresses was found.
    `pull` proposes the commit instead of making it.
    """

    repo: str
    type: RepoType
    stage: str | None = None
    prefix: str = ""
    licence: str | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    public: bool = False
    pull: bool = False
    checkpoints: bool = False
    logs: bool = False
    personal: bool = False
    outputs: tuple[str, ...] = ()

    def problems(self, dashes: str = "--") -> list[str]:
        """What is wrong with the words of it; where it goes and what is in it is found out later.

        `dashes` stand before the words: they are options of the command, or keys of a recipe.
        """
        found = [problem] if (problem := repo_problem(self.repo)) else []
        if self.prefix and not PREFIX.fullmatch(self.prefix):
            found.append(f"{dashes}prefix {self.prefix!r}: letters, digits, '-' and '_' only")
        if self.prefix and self.type == "model":
            found.append(f"{dashes}prefix is for datasets: a model has no configs")
        if self.checkpoints and self.type == "dataset":
            found.append(f"{dashes}checkpoints is for models")
        if self.checkpoints and self.pull:
            found.append(
                f"{dashes}checkpoints and {dashes}pr: a pull request holds one revision; publish them one by one"
            )
        return found


def repo_problem(repo: str) -> str | None:
    """What is wrong with a Hub repository id, or None. The Hub's own rules, and an owner is always named."""
    owner, slash, name = repo.partition("/")
    if not slash or not owner or not name or "/" in name:
        return f"repo {repo!r}: give owner/name, as in my-name/arithmetic-traces"
    for part in (owner, name):
        if not PART.fullmatch(part) or "--" in part or ".." in part:
            return (
                f"repo {repo!r}: {part!r} may hold letters, digits, '-', '_' and '.', no two '-' or '.' in a row, and "
                "neither begins nor ends with one of them"
            )
    if len(repo) > LONGEST:
        return f"repo {repo!r}: {len(repo)} characters; the Hub takes at most {LONGEST}"
    if name.endswith(".git"):
        return f"repo {repo!r}: a name cannot end in .git"
    return None
