"""Send a folder to the Hub: look at what is there, merge, commit what differs, read it back.

Every round begins with what the repository holds now. So a commit that another one overtook is merged anew, one whose
answer was lost is found done, one that was killed half-way sends only what is missing, and one that changes nothing
is not made.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openr1.errors import OutsideError, UserError
from openr1.hub.merge import merge_cards, merge_provenance
from openr1.hub.publish import CARD, PROVENANCE, PublishPlan
from openr1.hub.remote import Conflict, Head, Remote, RemoteFile, pause
from openr1.hub.scan import Scan

logger = logging.getLogger("openr1")

ROUNDS = 40  # of looking again after another's commit
FAILURES = 8  # of them because the Hub failed
SAMPLE_FILES, SAMPLE_BYTES = 8, 256_000_000  # of what arrived, that is downloaded again
WORDS = (CARD, PROVENANCE, ".gitattributes")


@dataclass(frozen=True)
class Large:
    """From when on an upload goes to a branch in several commits, and how many files each has."""

    bytes: int = 20_000_000_000
    files: int = 500
    batch: int = 50


@dataclass(frozen=True)
class Sent:
    """What was done. `changed`: files that went or were taken away; 0 where all was there already. `read`: files whose
    bytes were read back, beside the hashes that the Hub has of all of them."""

    commit: str
    revision: str
    changed: int
    url: str
    pull: str | None = None
    read: int = 0


@dataclass(frozen=True)
class Local:
    """A file to send: its content, and its hashes as the Hub has them."""

    content: Path | bytes
    size: int
    git: str
    sha256: str

    def is_at(self, there: RemoteFile | None) -> bool:
        if there is None or there.size != self.size:
            return False
        return there.sha256 == self.sha256 if there.sha256 else there.git == self.git


def send(remote: Remote, plan: PublishPlan, title: str, revision: str = "main", large: Large | None = None) -> Sent:
    """Bring `revision` of the repository to what the plan holds, beside what is there of others.

    Raises UserError where it would overwrite files that openr1 did not publish, OutsideError where the Hub fails.
    """
    bounds = large or Large()
    if revision == "main" and (plan.bytes > bounds.bytes or len(plan.files) > bounds.files):
        return _send_branch(remote, plan, title, bounds)
    if revision != "main" and remote.head(revision) is None:
        main = remote.head()
        assert main is not None
        remote.branch(revision, main.sha)
    return _rounds(remote, plan, title, revision)


def propose(remote: Remote, plan: PublishPlan, title: str) -> Sent:
    """A pull request with what differs from main; an open one of the same content is found instead of made twice."""
    named = f"{title} [{digest_of(plan)}]"
    for failures in range(1, FAILURES + 1):
        number = remote.open_pull(named)
        head = _main(remote)
        files, stale = _wanted(remote, plan, head)
        changed = {p: f for p, f in files.items() if not f.is_at(head.files.get(p))}
        if not changed and not stale:
            return Sent(head.sha, "main", 0, _url(remote, head.sha))
        if number is not None:
            pulled = remote.head(f"refs/pr/{number}")
            assert pulled is not None
            read = _read_back(remote, pulled, files)
            page = f"{_page(remote)}/discussions/{number}"
            return Sent(pulled.sha, f"refs/pr/{number}", len(changed) + len(stale), page, page, read)
        try:
            content = {p: f.content for p, f in changed.items()}
            remote.commit(named, content, stale, head.sha, pull=True)
        except Conflict as e:
            logger.info("the pull request has to be tried again (%s)", e)
            pause(failures)
    raise OutsideError(f"{remote.name}: the pull request failed {FAILURES} times; publish again later")


def digest_of(plan: PublishPlan) -> str:
    """A short name for the content of a publication."""
    named = json.dumps([[f.path, f.sha256] for f in plan.files])
    return hashlib.sha256(named.encode()).hexdigest()[:12]


# --------------------------------------------------------------------------------------------------- one revision
def _rounds(remote: Remote, plan: PublishPlan, title: str, revision: str) -> Sent:
    failures, made = 0, 0
    for _ in range(ROUNDS):
        head = remote.head(revision)
        assert head is not None
        files, stale = _wanted(remote, plan, head)
        changed = {p: f for p, f in files.items() if not f.is_at(head.files.get(p))}
        if not changed and not stale:
            read = _read_back(remote, head, files) if made else 0
            return Sent(head.sha, revision, made, _url(remote, head.sha), read=read)
        try:
            content = {p: f.content for p, f in changed.items()}
            done = remote.commit(title, content, stale, head.sha, revision)
        except Conflict as e:
            failures += "412" not in str(e) and "409" not in str(e)
            if failures >= FAILURES:
                raise OutsideError(
                    f"{remote.name}: the Hub failed {failures} times while openr1 commits ({e}); publish again later: "
                    "what has arrived is not sent twice"
                ) from e
            made = len(changed) + len(stale)
            logger.info("the commit has to be tried again (%s)", e)
            pause(min(failures + 1, 4))
            continue
        there = remote.head(done.oid)
        assert there is not None
        read = _read_back(remote, there, files)
        return Sent(done.oid, revision, len(changed) + len(stale), _url(remote, done.oid), read=read)
    raise OutsideError(f"{remote.name}: {ROUNDS} times another commit came first; publish again when it is quieter")


def _wanted(remote: Remote, plan: PublishPlan, head: Head) -> tuple[dict[str, Local], list[str]]:
    """(files that the revision shall hold, merged with what it has; files of ours that it shall no longer hold)."""
    folder = Path(plan.folder)
    published = _published(remote, head)
    ours = {p for one in published for p in one.get("files") or {}}
    record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    before = {p for o in published if o.get("name") == record["publications"][0]["name"] for p in o.get("files") or {}}
    files = _local(plan)
    _refuse_foreign(remote, head, files, ours)
    owned = {p for p in ours if p.startswith(tuple(plan.patterns))} | before
    stale = sorted(p for p in owned if p in head.files and p not in files)
    if CARD in head.files:
        gone = {p.split("/")[0] for p in stale} - set(plan.rows)
        theirs, mine = remote.read(CARD, head.sha), (folder / CARD).read_text(encoding="utf-8")
        files[CARD] = _local_bytes(_clean(merge_cards(theirs, mine, gone)))
    if published:
        there = [p for p in head.files if p not in stale]
        merged = merge_provenance({"publications": published}, record, there)
        files[PROVENANCE] = _local_bytes(json.dumps(merged, indent=2, ensure_ascii=False) + "\n")
    return files, stale


def _refuse_foreign(remote: Remote, head: Head, files: Mapping[str, Local], ours: set[str]) -> None:
    """Raise UserError where a file would be overwritten that openr1 did not publish."""
    there = [p for p in files if p in head.files and p not in ours and p not in WORDS]
    foreign = [p for p in there if not files[p].is_at(head.files[p])]
    if foreign:
        raise UserError(
            f"{remote.name} is taken: it holds {', '.join(foreign[:3])}{' and others' if len(foreign) > 3 else ''}, "
            "which openr1 did not publish; choose another --repo, another --prefix, or move them away first"
        )


def _clean(card: str) -> str:
    """The merged card, unless what a person wrote into it must not be sent on."""
    scan = Scan()
    for number, line in enumerate(card.split("\n"), 1):
        scan.look(line, CARD, f"line {number} of the card on the Hub, merged with ours")
    if scan.findings:
        raise UserError(*map(str, scan.findings), "nothing was sent: mend the card on the Hub first")
    return card


def _published(remote: Remote, head: Head) -> list[dict[str, dict[str, object]]]:
    """What the revision says that openr1 published there."""
    if PROVENANCE not in head.files:
        return []
    try:
        found = json.loads(remote.read(PROVENANCE, head.sha))
        return [p for p in found["publications"] if isinstance(p, dict)]
    except (ValueError, KeyError, TypeError):
        return []


def _read_back(remote: Remote, there: Head, files: Mapping[str, Local]) -> int:
    """Raise OutsideError unless the commit holds every file with the hash that it has here; how many were read.

    Of all files the hashes are compared that the Hub lists; of a sample the bytes come back.
    """
    sample = sample_of({p: f.size for p, f in files.items()})
    wrong = [p for p, f in files.items() if not f.is_at(there.files.get(p))]
    wrong += [p for p in sample if p not in wrong and remote.digest(p, there.sha) != files[p].sha256]
    if wrong:
        raise OutsideError(
            f"{remote.name}: read back at {there.sha[:12]}, {', '.join(wrong[:3])} is not what was sent; publish again"
        )

    return len(sample)


def sample_of(sizes: Mapping[str, int], files: int = SAMPLE_FILES, most: int = SAMPLE_BYTES) -> list[str]:
    """Of the paths the small ones first, then larger ones evenly apart, until there are so many files or bytes."""
    by_size = sorted(sizes, key=lambda p: (sizes[p], p))
    small, large = by_size[: files // 2], by_size[files // 2 :]
    step = max(1, -(-len(large) // max(1, files - len(small))))
    chosen, total = [], 0
    for path in [*small, *large[::step]]:
        if total + sizes[path] <= most:
            chosen.append(path)
            total += sizes[path]
    return chosen


# ------------------------------------------------------------------------------------------------------------- large
def _send_branch(remote: Remote, plan: PublishPlan, title: str, bounds: Large) -> Sent:
    """A large publication: a branch named after its content, filled in batches, then tagged; main is left alone."""
    name = f"openr1-{digest_of(plan)}"
    if remote.head(name) is None:
        remote.branch(name, _main(remote).sha)
    data = [f for f in plan.files if f.path not in (CARD, PROVENANCE)]
    parts = [data[i : i + bounds.batch] for i in range(0, len(data), bounds.batch)]
    changed = sum(
        _batch(remote, plan, [f.path for f in part], f"{title} ({i}/{len(parts)})", name)
        for i, part in enumerate(parts, 1)
    )
    sent = _rounds(remote, plan, title, name)
    tag = f"{name}-tag"
    remote.tag(tag, sent.commit)
    return Sent(sent.commit, tag, changed + sent.changed, _url(remote, tag), read=sent.read)


def _batch(remote: Remote, plan: PublishPlan, paths: list[str], title: str, branch: str) -> int:
    """Some of the files onto a branch that is ours alone; those that are there already are not sent."""
    for failures in range(1, FAILURES + 1):
        head = remote.head(branch)
        assert head is not None
        files = _local(plan)
        changed = {p: files[p].content for p in paths if not files[p].is_at(head.files.get(p))}
        if not changed:
            return len(paths) if failures > 1 else 0
        try:
            remote.commit(title, changed, [], head.sha, branch)
            return len(changed)
        except Conflict as e:
            logger.info("the commit has to be tried again (%s)", e)
            pause(failures)
    raise OutsideError(f"{remote.name}: {FAILURES} commits to {branch} failed; publish again later")


# ------------------------------------------------------------------------------------------------------------- pieces
def _main(remote: Remote) -> Head:
    head = remote.head()
    if head is None:
        raise OutsideError(f"{remote.name}: has no branch main")
    return head


def _local(plan: PublishPlan) -> dict[str, Local]:
    return {f.path: Local(Path(plan.folder) / f.path, f.bytes, f.git, f.sha256) for f in plan.files}


def _local_bytes(text: str) -> Local:
    data = text.encode()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return Local(data, len(data), git, hashlib.sha256(data).hexdigest())


def _page(remote: Remote) -> str:
    return f"{remote.api.endpoint}/{'datasets/' if remote.type == 'dataset' else ''}{remote.repo}"


def _url(remote: Remote, revision: str) -> str:
    return f"{_page(remote)}/tree/{revision}"
