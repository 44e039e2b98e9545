"""A Hub for tests: repositories, LFS, commits, branches, tags, pull requests, downloads, tokens and visibility.

Not covered: Xet (set HF_HUB_DISABLE_XET=1), multipart LFS, discussions beyond what a pull request needs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import quote, urlsplit

import yaml
from faults import Failure, Handler, serve
from hub_state import Commit, Entry, Repo, State

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".arrow", ".gz", ".zst", ".png")
LFS_SIZE = 10 * 1024 * 1024
PREFIX = {"model": "", "dataset": "datasets/"}


class HubHandler(Handler):
    state = State()

    # ------------------------------------------------------------------------------------------------ who and what
    def user(self) -> dict[str, Any] | None:
        return self.state.user(self.headers.get("Authorization"))

    def repo(self, type: str, id: str) -> Repo:
        user, repo = self.user(), self.state.repos.get((type, id))
        if repo is None or not self.state.sees(user, repo):
            raise Failure(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repo

    def admin(self, what: str, value: Any) -> Any:
        if what == "commits":  # titles of a reference, newest first
            repo = self.state.repos[(value["type"], value["repo"])]
            titles, oid = [], repo.resolve(value.get("revision") or "main")
            while commit := repo.commits.get(oid):
                titles.append(commit.title)
                oid = commit.parent or ""
            return titles
        if what == "create":
            repo = self.state.create(value["type"], value["repo"], value.get("private", True), "someone")
            files = {k: self.state.keep(v.encode()) for k, v in value.get("files", {}).items()}
            repo.branches["main"] = repo.commit(repo.branches["main"], files, "by hand", "someone")
            return {}
        if what == "clear":
            self.state.repos.clear()
            self.state.blobs.clear()
            return {}
        if what == "files":  # path -> SHA-256 of what a reference holds
            repo = self.state.repos[(value["type"], value["repo"])]
            files = repo.commits[repo.resolve(value.get("revision") or "main")].files
            return {p: hashlib.sha256(self.state.blobs[e.oid]).hexdigest() for p, e in files.items()}
        if what == "references":
            repo = self.state.repos[(value["type"], value["repo"])]
            return {"branches": sorted(repo.branches), "tags": sorted(repo.tags), "pulls": sorted(repo.pulls)}
        if what == "private":
            return self.state.repos[(value["type"], value["repo"])].private
        return super().admin(what, value)

    # ------------------------------------------------------------------------------------------------------ routes
    def route(self, body: bytes) -> None:
        path = self.segments
        if path[:2] == ["api", "whoami-v2"]:
            return self.whoami()
        if path[:2] == ["api", "validate-yaml"]:
            return self.validate(json.loads(body))
        if path[:3] == ["api", "repos", "create"]:
            return self.create(json.loads(body))
        if path[0] == "api" and len(path) >= 4 and path[1] in ("models", "datasets"):
            return self.api(self.repo(path[1][:-1], "/".join(path[2:4])), path[4:], body)
        if path[0] == "_lfs":
            return self.lfs_object(path[1], body)
        type, rest = ("dataset", path[1:]) if path[0] == "datasets" else ("model", path)
        if len(rest) >= 2 and rest[1].endswith(".git"):
            return self.lfs_batch(self.repo(type, f"{rest[0]}/{rest[1][:-4]}"), json.loads(body))
        if len(rest) >= 5 and rest[2] in ("resolve", "raw"):
            return self.download(self.repo(type, "/".join(rest[:2])), rest[3:])
        raise Failure(404, f"no such route: {self.command} {self.path}")

    def whoami(self) -> None:
        user = self.user()
        if user is None:
            raise Failure(401, "Invalid username or password.")
        token = {"displayName": "test", "role": user["role"]}
        orgs = [{"type": "org", "name": o, "id": o} for o in user["orgs"]]
        known = {"type": "user", "id": user["name"], "name": user["name"], "fullname": user["name"], "isPro": False}
        self.send(200, known | {"orgs": orgs, "auth": {"type": "access_token", "accessToken": token}})

    def validate(self, asked: dict[str, Any]) -> None:
        try:
            yaml.safe_load(asked["content"].split("---\n")[1])
            self.send(200, {"errors": [], "warnings": []})
        except yaml.YAMLError as e:
            self.send(400, {"errors": [{"message": str(e)}], "warnings": []})

    def create(self, asked: dict[str, Any]) -> None:
        user = self.user()
        owner = asked.get("organization") or (user or {}).get("name", "")
        user = self.state.may_write(user, owner)
        type, id = asked.get("type") or "model", f"{owner}/{asked['name']}"
        url = f"{self.base}/{PREFIX[type]}{id}"
        with self.state.lock:
            if (type, id) in self.state.repos:
                said = f"You already created this {type} repo: {id}"
                return self.send(409, {"error": said, "url": url}, headers={"X-Error-Message": said})
            private = bool(asked.get("private") or asked.get("visibility") == "private")
            self.state.create(type, id, private, user["name"])
        return self.send(200, {"url": url, "name": id, "id": id})

    def api(self, repo: Repo, rest: list[str], body: bytes) -> None:
        what, reads = (rest[0] if rest else "info"), self.command in ("GET", "HEAD")
        if reads:
            routes = {"info": self.info, "revision": self.info, "tree": self.tree, "refs": self.refs}
            routes |= {"commits": self.log, "discussions": self.discussions}
        else:
            routes = {"commit": self.commit, "preupload": self.preupload, "branch": self.branch, "tag": self.tag}
            routes |= {"paths-info": self.paths_info, "settings": self.settings}
            asks_for_pull = self.query.get("create_pr") == "1"
            if what != "paths-info":
                user = self.user()
                if asks_for_pull and user is None:
                    raise Failure(401, "Invalid username or password.")
                if not asks_for_pull:
                    self.state.may_write(user, repo.owner)
        if what not in routes:
            raise Failure(404, f"no such route: {self.command} {self.path}")
        self.send(200, *routes[what](repo, rest[1:], body))

    # ----------------------------------------------------------------------------------------------------- reading
    def info(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        commit = repo.commits[repo.resolve("/".join(rest))]
        siblings = [{"rfilename": p} | self.described(e) for p, e in sorted(commit.files.items())]
        known = {"_id": repo.id, "id": repo.id, "modelId": repo.id, "author": repo.owner, "sha": commit.id}
        known |= {"private": repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        known |= {"lastModified": commit.date, "createdAt": repo.created, "siblings": siblings}
        return ({**known, "tags": [], "cardData": self.front(commit)},)

    def front(self, commit: Commit) -> Any:
        entry = commit.files.get("README.md")
        text = self.state.blobs[entry.oid].decode() if entry else ""
        return yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else None

    def described(self, entry: Entry) -> dict[str, Any]:
        lfs = {"oid": entry.oid, "sha256": entry.oid, "size": entry.size, "pointerSize": 134}
        oid = hashlib.sha1(entry.oid.encode()).hexdigest() if entry.lfs else entry.oid
        return {"oid": oid, "blobId": oid, "size": entry.size} | ({"lfs": lfs} if entry.lfs else {})

    def tree(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        files = repo.commits[repo.resolve(rest[0])].files
        under = "/".join(rest[1:]).strip("/")
        prefix = f"{under}/" if under else ""
        deep = self.query.get("recursive", "").lower() in ("1", "true")
        found: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(files.items()):
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            folders = [prefix + "/".join(parts[:i]) for i in range(1, len(parts))]
            for folder in folders if deep else folders[:1]:
                found.setdefault(folder, {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0})
            if deep or len(parts) == 1:
                found[path] = {"type": "file", "path": path} | self.described(entry)
        if not found and prefix:
            raise Failure(404, f"{under} does not exist on {rest[0]}", "EntryNotFound")
        return self.paged(list(found.values()))

    def paged(self, rows: list[Any]) -> tuple[Any, ...]:
        start, size = int(self.query.get("cursor", 0)), int(self.query.get("limit", 50))
        if start + size >= len(rows):
            return (rows[start:],)
        words = {**self.query, "cursor": str(start + size)}
        link = f"{self.base}{urlsplit(self.path).path}?{'&'.join(f'{k}={quote(v)}' for k, v in words.items())}"
        return rows[start : start + size], "application/json", {"Link": f'<{link}>; rel="next"'}

    def paths_info(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        files = repo.commits[repo.resolve("/".join(rest))].files
        asked = json.loads(body)["paths"] if body.startswith(b"{") else []
        return ([{"type": "file", "path": p} | self.described(files[p]) for p in asked if p in files],)

    def refs(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        def named(kind: str, heads: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": h} for n, h in heads.items()]

        return ({"branches": named("heads", repo.branches), "tags": named("tags", repo.tags), "converts": []},)

    def log(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        found, oid = [], repo.resolve("/".join(rest))
        while commit := repo.commits.get(oid):
            authors = [{"user": commit.author}]
            known = {"id": commit.id, "title": commit.title, "message": "", "date": commit.date, "authors": authors}
            found.append(known)
            oid = commit.parent or ""
        return (found,)

    def discussions(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        found = [
            {
                "title": p["title"], "num": int(n), "author": {"name": p["author"]}, "isPullRequest": True,
                "status": "open", "createdAt": now_of(p), "repo": {"name": repo.id, "type": repo.type},
            }
            for n, p in repo.pulls.items()
        ]  # fmt: skip
        return ({"discussions": found, "count": len(found), "start": 0, "numClosedDiscussions": 0},)

    def download(self, repo: Repo, rest: list[str]) -> None:
        revision, path = rest[0], "/".join(rest[1:])
        if revision == "refs":
            revision, path = "/".join(rest[:3]), "/".join(rest[3:])
        sha = repo.resolve(revision)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        entry = repo.commits[sha].files.get(path)
        if entry is None:
            missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self.send(404, {"error": "Entry not found"}, headers=headers | missing)
        data, status = self.state.blobs[entry.oid], 200
        headers["ETag"] = f'"{entry.oid}"'
        if entry.lfs:
            headers |= {"X-Linked-Etag": f'"{entry.oid}"', "X-Linked-Size": str(entry.size)}
        asked = self.headers.get("Range")
        if asked and self.command == "GET":
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin = int(first) if first else len(data) - int(last)
            end = min(int(last), len(data) - 1) if first and last else len(data) - 1
            if begin >= len(data):
                return self.send(416, b"", headers={"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
            data, status = data[begin : end + 1], 206
        return self.send(status, data, "application/octet-stream", headers)

    # ----------------------------------------------------------------------------------------------------- writing
    def preupload(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        there = repo.commits[repo.resolve("/".join(rest))].files
        modes = []
        for file in json.loads(body)["files"]:
            large = file["path"].lower().endswith(LFS_SUFFIXES) or file["size"] > LFS_SIZE
            oid = there[file["path"]].oid if file["path"] in there else None
            mode = "lfs" if large else "regular"
            modes.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return ({"files": modes},)

    def lfs_batch(self, repo: Repo, asked: dict[str, Any]) -> None:
        user = self.user() or {}
        self.state.may_write(user or None, str(user.get("name")))  # for a pull request too, to another's repository
        objects = []
        for one in asked["objects"]:
            place = {"href": f"{self.base}/_lfs/{one['oid']}", "header": {}}
            actions = {} if one["oid"] in self.state.blobs else {"actions": {"upload": place, "verify": place}}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        self.send(200, {"transfer": "basic", "objects": objects})

    def lfs_object(self, oid: str, body: bytes) -> None:
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                raise Failure(400, "the content is not what the oid says")
            self.state.blobs[oid] = body
        elif oid not in self.state.blobs:
            raise Failure(404, "not uploaded")
        self.send(200, {})

    def commit(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        revision, pull = "/".join(rest), self.query.get("create_pr") == "1"
        header, *changes = [json.loads(line) for line in body.splitlines() if line.strip()]
        head_of, title = header["value"], header["value"]["summary"]
        author = (self.user() or {"name": "nobody"})["name"]
        with repo.lock:
            head = repo.resolve(revision)
            if head_of.get("parentCommit") not in (None, head):
                raise Failure(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repo.commits[head].files)
            for change in changes:
                self.apply(files, change["key"], change["value"])
            oid = repo.commit(head, files, title, author)
            page = None
            if pull:
                number = str(len(repo.pulls) + 1)
                repo.pulls[number] = {"head": oid, "title": title, "author": author, "created": repo.created}
                page = f"{self.base}/{PREFIX[repo.type]}{repo.id}/discussions/{number}"
            else:
                repo.move(revision, oid)
        place = f"{self.base}/{PREFIX[repo.type]}{repo.id}/commit/{oid}"
        return ({"success": True, "commitOid": oid, "commitUrl": place, "hookOutput": "", "pullRequestUrl": page},)

    def apply(self, files: dict[str, Entry], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            files[path] = self.state.keep(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in self.state.blobs:
                raise Failure(400, f"LFS object {value['oid']} was not uploaded")
            files[path] = Entry(value["oid"], len(self.state.blobs[value["oid"]]), True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Failure(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            raise Failure(400, f"unknown operation {key}")

    def settings(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        asked = json.loads(body)
        repo.private = (
            asked["visibility"] == "private" if "visibility" in asked else asked.get("private", repo.private)
        )
        return ({"private": repo.private},)

    def branch(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        name = "/".join(rest)
        with repo.lock:
            if self.command == "DELETE":
                repo.branches.pop(name, None)
            elif name in repo.branches:
                raise Failure(409, f"Reference already exists: refs/heads/{name}")
            else:
                repo.branches[name] = repo.resolve(json.loads(body or b"{}").get("startingPoint") or "main")
        return ({},)

    def tag(self, repo: Repo, rest: list[str], body: bytes) -> tuple[Any, ...]:
        with repo.lock:
            if self.command == "DELETE":
                repo.tags.pop("/".join(rest), None)
                return ({},)
            name = json.loads(body)["tag"]
            if name in repo.tags:
                raise Failure(409, f"Tag reference exists already: {name}")
            repo.tags[name] = repo.resolve("/".join(rest))
        return ({},)


def now_of(pull: dict[str, Any]) -> str:
    return str(pull["created"])


if __name__ == "__main__":
    serve(HubHandler)
