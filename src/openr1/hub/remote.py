"""A repository on the Hub: every call bounded in time, tried again where that helps, and failing in one clear line.

The Hub's client waits without a limit and sends a commit once; here reads, uploads and commits are tried again on 429,
5xx and broken connections. A commit that met another one (409, 412) is `Conflict`: the caller looks again at what is
there and decides anew, so that a commit whose answer was lost is found instead of made twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from openr1.errors import OpenR1Error, OutsideError, UserError, transport_errors
from openr1.hub.settings import RepoType

logger = logging.getLogger("openr1")

TRIES = 6
CALL_SECONDS = 60.0  # that a call may stay without a byte
LONGEST_WAIT = 30.0
TOKENS_PAGE = "https://huggingface.co/settings/tokens"
Found = TypeVar("Found")
# what says nothing about whether the Hub did what it was asked: RuntimeError is its client's word for a bad upload
_BROKEN: tuple[type[Exception], ...] = (*transport_errors(), json.JSONDecodeError, RuntimeError)


class Conflict(Exception):
    """Somebody else's commit came first, or it cannot be told whether ours arrived."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it: `sha256` for a file in LFS, the git object's SHA-1 for any other."""

    size: int
    git: str
    sha256: str | None


@dataclass(frozen=True)
class Head:
    """What a revision holds."""

    sha: str
    files: dict[str, RemoteFile]


@contextmanager
def bounded_calls(seconds: float | None = None) -> Iterator[None]:
    """The Hub's client with a limit on how long it waits for an answer, in calls too that it makes without one."""
    from huggingface_hub import close_session, set_client_factory
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils._http import default_client_factory

    limit = seconds or CALL_SECONDS

    def bound(request: Any) -> None:
        asked = request.extensions.get("timeout") or {}
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {kind: asked.get(kind) or limit for kind in kinds}

    def bounded() -> Any:
        client = default_client_factory()
        client.timeout = limit
        client.event_hooks["request"].append(bound)
        return client

    hub_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    set_client_factory(bounded)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
        close_session()


class Remote:
    """One repository, for whoever the token belongs to; a call that fails is made `tries` times."""

    def __init__(self, repo: str, type: RepoType, tries: int = TRIES) -> None:
        from huggingface_hub import HfApi

        self.api = HfApi(library_name="openr1")
        self.repo, self.type, self.tries = repo, type, tries
        self.name = f"{type} {repo}"

    # ------------------------------------------------------------------------------------------------ who and where
    def may_write(self, pull: bool) -> str:
        """The name of who publishes. Raises UserError for a token that is missing, wrong, or may not."""
        from huggingface_hub import errors

        if problem := unable():
            raise UserError(problem)
        try:
            me = self._asked(lambda: self.api.whoami(cache=False), "signs in to", (errors.HfHubHTTPError,))
        except errors.HfHubHTTPError as e:
            if _status(e) != 401:
                raise self._refused(e, "signs in to") from e
            raise UserError(f"the Hub does not accept this token; make a new one at {TOKENS_PAGE}") from e
        token = (me.get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise UserError(f"this token of {me['name']} may only read; make one that may write at {TOKENS_PAGE}")
        owner, mine = self.repo.split("/")[0], [me["name"], *(o["name"] for o in me.get("orgs") or [])]
        if owner not in mine and not pull:
            raise UserError(f"{me['name']} may not write to {owner}/; write to {' or '.join(mine)}, or use --pr")
        return str(me["name"])

    def visibility(self) -> str | None:
        """private or public; None where there is no such repository that this token may see."""
        from huggingface_hub import errors

        gone = (errors.RepositoryNotFoundError,)
        try:
            info = self._asked(lambda: self.api.repo_info(self.repo, repo_type=self.type), "looks at", gone)
        except errors.RepositoryNotFoundError:
            return None
        return "private" if info.private else "public"

    def create(self) -> None:
        """A private repository; it is no error when it is there."""

        def call() -> Any:
            return self.api.create_repo(self.repo, repo_type=self.type, private=True, exist_ok=True)

        self._asked(call, "creates")
        if self.visibility() is None:
            raise UserError(
                f"{self.name}: the name is taken by a repository that this token may not see; choose another"
            )

    def make_public(self) -> None:
        self._asked(lambda: self.api.update_repo_settings(self.repo, repo_type=self.type, private=False), "opens")

    # ------------------------------------------------------------------------------------------------------ reading
    def head(self, revision: str = "main") -> Head | None:
        """What `revision` holds now; None where there is no such revision."""
        from huggingface_hub import errors

        def call() -> Head:
            sha = self.api.repo_info(self.repo, repo_type=self.type, revision=revision).sha
            assert sha is not None
            tree = self.api.list_repo_tree(self.repo, repo_type=self.type, revision=sha, recursive=True)
            files = {e.path: _remote_file(e) for e in tree if hasattr(e, "blob_id")}
            return Head(sha, files)

        try:
            return self._asked(call, "reads", (errors.RevisionNotFoundError,))
        except errors.RevisionNotFoundError:
            return None

    def read(self, path: str, sha: str) -> str:
        """The text of a small file at a commit."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def call() -> str:
            url = hf_hub_url(self.repo, path, repo_type=self.type, revision=sha, endpoint=self.api.endpoint)
            response = get_session().get(url, headers=build_hf_headers())
            hf_raise_for_status(response)
            return response.content.decode("utf-8", "replace")

        return self._asked(call, f"reads {path} of")

    def digest(self, path: str, sha: str) -> str:
        """The SHA-256 of a file's bytes at a commit, read to their end."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def call() -> str:
            url = hf_hub_url(self.repo, path, repo_type=self.type, revision=sha, endpoint=self.api.endpoint)
            found = hashlib.sha256()
            with get_session().stream("GET", url, headers=build_hf_headers(), follow_redirects=True) as response:
                hf_raise_for_status(response)
                for piece in response.iter_bytes(1 << 20):
                    found.update(piece)
            return found.hexdigest()

        return self._asked(call, f"reads {path} of")

    def licence_of(self, id: str, type: RepoType) -> str | None:
        """The licence that a source's card names; None where it names none or cannot be read."""
        from huggingface_hub import errors

        hidden = (errors.RepositoryNotFoundError, errors.GatedRepoError)
        try:
            info = self._asked(lambda: self.api.repo_info(id, repo_type=type), "looks up sources of", hidden)
        except hidden:
            return None
        card = getattr(info, "card_data", None)
        data = card.to_dict() if card else {}
        found = data.get("license")
        return str(found).lower() if isinstance(found, str) else None

    def open_pull(self, title: str) -> int | None:
        """The number of an open pull request of this title."""

        def call() -> int | None:
            for one in self.api.get_repo_discussions(self.repo, repo_type=self.type):
                if one.is_pull_request and one.status == "open" and one.title == title:
                    return int(one.num)
            return None

        return self._asked(call, "looks for pull requests of")

    # ------------------------------------------------------------------------------------------------------ writing
    def commit(
        self,
        title: str,
        add: Mapping[str, Path | bytes],
        delete: Sequence[str],
        parent: str,
        revision: str = "main",
        pull: bool = False,
    ) -> Any:
        """One commit on `parent`. Raises Conflict where the caller has to look again."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors

        operations: list[Any] = [CommitOperationAdd(path, content) for path, content in add.items()]
        operations += [CommitOperationDelete(path) for path in delete]
        words: dict[str, Any] = {"commit_message": title, "revision": revision, "create_pr": pull}
        try:
            return self.api.create_commit(self.repo, operations, repo_type=self.type, parent_commit=parent, **words)
        except errors.HfHubHTTPError as e:
            if _status(e) in (409, 412, 429) or _status(e) >= 500:
                raise Conflict(_line(e)) from e
            raise self._refused(e, "commits to") from e
        except _BROKEN as e:
            raise Conflict(_line(e)) from e

    def branch(self, name: str, start: str) -> None:
        call = self.api.create_branch
        self._asked(
            lambda: call(self.repo, repo_type=self.type, branch=name, revision=start, exist_ok=True), "branches"
        )

    def tag(self, name: str, sha: str) -> None:
        call = self.api.create_tag
        self._asked(lambda: call(self.repo, repo_type=self.type, tag=name, revision=sha, exist_ok=True), "tags")

    # ---------------------------------------------------------------------------------------------------- trying again
    def _asked(self, call: Callable[[], Found], what: str, expected: tuple[type[Exception], ...] = ()) -> Found:
        """`call`, tried again where the Hub or the way to it failed; a refusal is one line, unless `expected`."""
        from huggingface_hub import errors

        for attempt in range(1, self.tries + 1):
            try:
                return call()
            except errors.HfHubHTTPError as e:
                if _status(e) not in (409, 412, 429) and _status(e) < 500:
                    if isinstance(e, expected):
                        raise
                    raise self._refused(e, what) from e
                problem, wait = _line(e), _asked_to_wait(e)
            except _BROKEN as e:
                problem, wait = _line(e), None
            if attempt < self.tries:
                pause(attempt, wait)
        raise OutsideError(
            f"{self.name}: the Hub failed {self.tries} time{'s' * (self.tries > 1)} while openr1 {what} it ({problem})"
            "; publish again later: what has arrived is not sent twice"
        )

    def _refused(self, error: Any, what: str) -> OpenR1Error:
        said = getattr(error, "server_message", None) or _line(error)
        return UserError(f"{self.name}: the Hub refuses ({_status(error)}: {said}) while openr1 {what} it")


def unable() -> str | None:
    """Why nothing can be published from this machine, as far as one can tell without asking the Hub, or None."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, so nothing can be published; unset it"
    return None if get_token() else "there is no token of the Hub here: run `hf auth login`, or set HF_TOKEN"


def pause(attempt: int, asked: float | None = None) -> None:
    """Wait before the next try: as long as the Hub asks for, else twice as long each time, and never in step."""
    seconds = asked if asked is not None else 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)
    time.sleep(min(seconds, LONGEST_WAIT))


def _remote_file(entry: Any) -> RemoteFile:
    return RemoteFile(int(entry.size), str(entry.blob_id), entry.lfs.sha256 if entry.lfs else None)


def _status(error: Any) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _asked_to_wait(error: Any) -> float | None:
    value = getattr(error.response, "headers", {}).get("Retry-After")
    return float(value) if value and value.isdigit() else None


def _line(error: BaseException) -> str:
    said = " ".join(str(error).partition("For more information check")[0].split())
    return said[:160] or type(error).__name__
