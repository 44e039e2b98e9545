"""The state of the test Hub: repositories of commits, each a set of files, with branches, tags and pull requests."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from faults import Failure

TOKENS = {
    "hf_write": {"name": "alice", "role": "write", "orgs": ["team"]},
    "hf_read": {"name": "alice", "role": "read", "orgs": ["team"]},
    "hf_bob": {"name": "bob", "role": "write", "orgs": []},
}
ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Entry:
    oid: str
    size: int
    lfs: bool


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    files: dict[str, Entry]
    title: str
    author: str
    date: str


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    created: str = field(default_factory=now)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    def commit(self, head: str | None, files: dict[str, Entry], title: str, author: str) -> str:
        """A new commit on top of `head`; no reference moves."""
        named = json.dumps([head, sorted((k, v.oid) for k, v in files.items()), title, len(self.commits)])
        oid = hashlib.sha1(named.encode()).hexdigest()
        self.commits[oid] = Commit(oid, head, dict(files), title, author, now())
        return oid

    def resolve(self, revision: str) -> str:
        name = revision or "main"
        pulls = {f"refs/pr/{n}": p["head"] for n, p in self.pulls.items()}
        branches = {f"refs/heads/{n}": h for n, h in self.branches.items()}
        for known in (self.branches, self.tags, pulls, branches):
            if name in known:
                return known[name]
        found = [oid for oid in self.commits if re.fullmatch(r"[0-9a-f]{7,40}", name) and oid.startswith(name)]
        if not found:
            raise Failure(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return found[0]

    def move(self, revision: str, head: str) -> None:
        if revision.startswith("refs/pr/"):
            self.pulls[revision.removeprefix("refs/pr/")]["head"] = head
        else:
            self.branches[revision.removeprefix("refs/heads/")] = head


class State:
    """All repositories and blobs, and who may do what."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def keep(self, data: bytes) -> Entry:
        oid = git_oid(data)
        self.blobs[oid] = data
        return Entry(oid, len(data), False)

    def create(self, type: str, id: str, private: bool, author: str) -> Repo:
        repo = self.repos[(type, id)] = Repo(type, id, private)
        repo.branches["main"] = repo.commit(None, {".gitattributes": self.keep(ATTRIBUTES)}, "initial commit", author)
        return repo

    def user(self, authorization: str | None) -> dict[str, Any] | None:
        if not authorization:
            return None
        token = authorization.split()[-1]
        if token not in TOKENS:
            raise Failure(401, "Invalid credentials in Authorization header")
        return TOKENS[token]

    def sees(self, user: dict[str, Any] | None, repo: Repo) -> bool:
        return not repo.private or (user is not None and repo.owner in [user["name"], *user["orgs"]])

    def may_write(self, user: dict[str, Any] | None, owner: str) -> dict[str, Any]:
        if user is None:
            raise Failure(401, "Invalid username or password.")
        if user["role"] != "write":
            raise Failure(403, "Forbidden: you must use a write token to upload to a repository.")
        if owner not in [user["name"], *user["orgs"]]:
            raise Failure(403, f'You don\'t have the rights to create a repo under the namespace "{owner}"')
        return user
