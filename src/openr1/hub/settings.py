"""What a repository of the Hub may be called; torch-free."""

from __future__ import annotations

import re
from typing import Literal

RepoType = Literal["dataset", "model"]
PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
LONGEST = 96


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
