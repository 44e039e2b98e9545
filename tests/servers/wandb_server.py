"""A W&B for tests: runs, history, resume, files, artifacts with lineage, alerts, and the queries of its public API.

There is no GraphQL engine: an operation is known by its name and answered with more than it asks for. What is not
known is said on standard error and answered with an error, so that a test that needs it fails.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from faults import Failure, Handler, serve

ENTITY = "local"


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def edges(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    listed = [{"node": node, "cursor": str(i)} for i, node in enumerate(nodes)]
    return {"edges": listed, "pageInfo": {"endCursor": None, "hasNextPage": False}, "totalCount": len(nodes)}


@dataclass
class Run:
    project: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    commit: str | None = None
    state: str = "running"
    starts: int = 0
    created: str = field(default_factory=now)

    @property
    def storage_id(self) -> str:
        return base64.b64encode(f"Run:v1:{self.name}:{self.project}:{ENTITY}".encode()).decode()

    def node(self, base: str) -> dict[str, Any]:
        kinds: dict[str, Any] = {}
        for row in self.history:
            for key in row:
                count = kinds.setdefault(key, {"typeCounts": [{"type": "number", "count": 0}], "monotonic": False})
                count["typeCounts"][0]["count"] += 1
        files = [
            {"id": f, "name": f, "sizeBytes": len(b), "updatedAt": now(), "md5": ""} for f, b in self.files.items()
        ]
        places = [{"url": f"{base}/up/{self.name}/{f['name']}", "mimetype": ""} for f in files]
        project = {"id": "1", "name": self.project, "entity": {"id": "1", "name": ENTITY}, "internalId": "1"}
        last = [json.dumps(row) for row in self.history[-1:]]
        return {
            "__typename": "Run", "id": self.storage_id, "name": self.name, "displayName": self.display_name,
            "tags": self.tags, "state": self.state, "group": self.group, "jobType": self.job_type, "notes": None,
            "commit": self.commit, "readOnly": False, "createdAt": self.created, "heartbeatAt": now(),
            "description": self.display_name, "sweepName": None, "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(self.summary), "systemMetrics": "{}", "projectId": "1", "project": project,
            "historyLineCount": len(self.history), "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]",
            "historyKeys": {"lastStep": max((r.get("_step", 0) for r in self.history), default=-1), "keys": kinds},
            "history": [json.dumps(row) for row in self.history], "historyTail": json.dumps(last),
            "wandbConfig": json.dumps({"t": {"value": 1}}), "user": {"name": "local", "username": "local"},
            "files": edges([f | {"directUrl": p["url"]} | p for f, p in zip(files, places, strict=True)]),
            "fileCount": len(files), "summary": json.dumps(self.summary),
        }  # fmt: skip


@dataclass
class Artifact:
    id: str
    type: str
    name: str
    digest: str
    metadata: Any
    aliases: list[str]
    made_by: str | None
    version: int
    state: str = "PENDING"
    used_by: list[str] = field(default_factory=list)
    manifest: str | None = None

    def node(self) -> dict[str, Any]:
        current = {"id": self.manifest, "file": {"url": "", "directUrl": ""}} if self.manifest else None
        sequence = {"id": f"s-{self.name}", "name": self.name, "latestArtifact": {"id": self.id, "versionIndex": 0}}
        return {
            "id": self.id, "state": self.state, "digest": self.digest, "versionIndex": self.version,
            "artifactSequence": sequence, "currentManifest": current, "aliases": [], "commitHash": self.digest[:12],
            "artifactType": {"id": "1", "name": self.type}, "createdAt": now(), "metadata": json.dumps(self.metadata),
        }  # fmt: skip


class State:
    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], Run] = {}
        self.artifacts: list[Artifact] = []
        self.lock = threading.RLock()

    def run(self, project: str | None, name: str | None) -> Run:
        found = self.runs.get((str(project), str(name)))
        if found is None:
            raise Failure(404, f"run {project}/{name} not found")
        return found


class WandbHandler(Handler):
    state = State()

    def admin(self, what: str, value: Any) -> Any:
        with self.state.lock:
            if what == "clear":
                self.state.runs.clear()
                self.state.artifacts.clear()
                return {}
            if what == "runs":
                return [vars(r) | {"files": sorted(r.files)} for r in self.state.runs.values()]
            if what == "artifacts":
                return [vars(a) for a in self.state.artifacts]
        return super().admin(what, value)

    def subject(self, body: bytes) -> str:
        found = re.search(rb'"query"\s*:\s*"\s*(?:query|mutation)\s+(\w+)', body)
        return f" {found.group(1).decode()}" if found else ""

    def route(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        with self.state.lock:
            if path == "/graphql":
                return self.graphql(json.loads(body))
            if stream := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path):
                return self.stream(self.state.run(stream[1], stream[2]), json.loads(body))
            if place := re.fullmatch(r"/up/([^/]+)/(.+)", path):
                return self.file(place[1], place[2], body)
        return self.send(200, {})

    def file(self, run: str, name: str, body: bytes) -> None:
        owner = next((r for r in self.state.runs.values() if r.name == run), None)
        if self.command == "PUT":
            if owner is not None:
                owner.files[name] = body
            return self.send(200, {})
        if owner is None or name not in owner.files:
            raise Failure(404, f"no file {name}")
        return self.send(200, owner.files[name], "application/octet-stream")

    def stream(self, run: Run, said: dict[str, Any]) -> None:
        """Lines of the run's files; history comes with the offset of its first line, so that none counts twice."""
        for name, chunk in (said.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                start, rows = chunk.get("offset", 0), [json.loads(line) for line in chunk["content"]]
                run.history[start : start + len(rows)] = rows
            elif name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if said.get("complete"):
            run.state = "finished" if said.get("exitcode") == 0 else "failed"
        self.send(200, {"exitcode": None, "limits": {}})

    # ---------------------------------------------------------------------------------------------------- GraphQL
    def graphql(self, asked: dict[str, Any]) -> None:
        query, words = asked["query"], asked.get("variables") or {}
        words |= words.pop("input", None) or {}
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else "?"
        answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "Viewer": self.viewer, "GetViewer": self.viewer, "GetDefaultEntity": self.viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
            "UpsertBucket": self.upsert, "RunResumeStatus": self.resume, "CreateRunFiles": self.run_files,
            "NotifyScriptableRunAlert": self.alert, "CreateArtifact": self.create_artifact,
            "CreateArtifactManifest": self.artifact_manifest, "UpdateArtifactManifest": self.artifact_manifest,
            "CreateArtifactFiles": self.artifact_files, "CommitArtifact": self.commit_artifact,
            "ArtifactType": lambda words: {"project": self.project(words) | {"artifact": None}},
            "UseArtifact": self.use_artifact, "GetProjects": self.projects, "Projects": self.projects,
        }  # fmt: skip
        if name in answers:
            return self.send(200, {"data": answers[name](words)})
        if name in ("Runs", "LightweightRuns") or ("runs(" in query and "project(" in query):
            return self.send(200, {"data": self.many_runs(words)})
        if "run(" in query:
            return self.send(200, {"data": self.one_run(words)})
        sys.stderr.write(f"wandb_server: unknown operation {name}: {' '.join(query.split())[:400]} {words}\n")
        return self.send(200, {"errors": [{"message": f"unknown operation {name}"}]})

    def project(self, words: dict[str, Any]) -> dict[str, Any]:
        name = words.get("project") or words.get("projectName")
        entity = {"id": "1", "name": ENTITY}
        known = {"id": "1", "name": name, "internalId": "1", "entity": entity, "entityName": ENTITY}
        return known | {"createdAt": now(), "isBenchmark": False, "readOnly": False}

    def viewer(self, words: dict[str, Any]) -> Any:
        user = {"__typename": "User", "id": "VXNlcjox", "entity": ENTITY, "username": "local", "name": "local"}
        rest = {"email": "l@l", "admin": False, "flags": "{}", "deletedAt": None, "apiKeys": edges([])}
        return {"viewer": user | rest | {"teams": edges([])}}

    def upsert(self, words: dict[str, Any]) -> Any:
        key = (words.get("project") or "", words["name"])
        new = key not in self.state.runs
        run = self.state.runs.setdefault(key, Run(*key))
        fields = {"displayName": "display_name", "groupName": "group", "jobType": "job_type", "tags": "tags"}
        for theirs, ours in (fields | {"commit": "commit"}).items():
            if words.get(theirs) is not None:
                setattr(run, ours, words[theirs])
        if words.get("config"):
            run.config = json.loads(words["config"])
        if words.get("summaryMetrics"):
            run.summary = json.loads(words["summaryMetrics"])
        run.state, run.display_name = "running", run.display_name or run.name
        run.starts += 1
        return {"upsertBucket": {"bucket": run.node(self.base), "inserted": new}}

    def resume(self, words: dict[str, Any]) -> Any:
        run = self.state.runs.get((words.get("project") or "", words["name"]))
        bucket = run.node(self.base) if run else None
        return {"model": {"id": "1", "name": words.get("project"), "entity": {"name": ENTITY}, "bucket": bucket}}

    def run_files(self, words: dict[str, Any]) -> Any:
        files = [{"name": f, "uploadUrl": f"{self.base}/up/{words['run']}/{f}"} for f in words["files"]]
        return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}

    def alert(self, words: dict[str, Any]) -> Any:
        run = self.state.run(words.get("projectName"), words.get("runName"))
        run.alerts.append({k: words.get(k) for k in ("title", "text", "severity")})
        return {"notifyScriptableRunAlert": {"success": True}}

    def many_runs(self, words: dict[str, Any]) -> Any:
        wanted = json.loads(words.get("filters") or "{}")
        found = [r for (p, _), r in self.state.runs.items() if p == words["project"] and matches(r, wanted)]
        runs = edges([r.node(self.base) for r in found])
        return {"project": self.project(words) | {"runCount": len(found), "runs": runs}}

    def one_run(self, words: dict[str, Any]) -> Any:
        run = self.state.runs.get((str(words.get("project")), str(words.get("name") or words.get("run"))))
        if run is None:
            return {"project": self.project(words) | {"run": None}}
        node = run.node(self.base)
        specs = words.get("specs") or ([words["spec"]] if "spec" in words else [])
        if specs:
            read = [json.loads(s) if isinstance(s, str) else s for s in specs]
            node["sampledHistory"] = [sampled(run.history, s.get("keys")) for s in read]
        if "minStep" in words:
            low, high = words["minStep"], words["maxStep"]
            node["history"] = [json.dumps(r) for r in run.history if low <= r.get("_step", 0) < high]
        return {"project": self.project(words) | {"run": node}}

    def projects(self, words: dict[str, Any]) -> Any:
        names = sorted({project for project, _ in self.state.runs})
        return {"models": edges([self.project({"project": n}) for n in names])}

    # -------------------------------------------------------------------------------------------------- artifacts
    def create_artifact(self, words: dict[str, Any]) -> Any:
        names = words.get("artifactCollectionNames") or [words.get("artifactCollectionName")]
        same = [a for a in self.state.artifacts if a.name == names[0]]
        found = next((a for a in same if a.digest == words["digest"]), None)
        if found is None:
            number = len(self.state.artifacts)
            identity = f"a{number}"
            metadata, aliases = words.get("metadata"), [a["alias"] for a in words.get("aliases") or []]
            known = [identity, words["artifactTypeName"], names[0], words["digest"], metadata, aliases]
            found = Artifact(*known, words.get("runName"), len(same))
            self.state.artifacts.append(found)
        return {"createArtifact": {"artifact": found.node()}}

    def by_id(self, identity: str) -> Artifact:
        return next(a for a in self.state.artifacts if a.id == identity)

    def artifact_manifest(self, words: dict[str, Any]) -> Any:
        identity = words.get("artifactID") or str(words.get("artifactManifestID", "")).removeprefix("m-")
        artifact = self.by_id(identity)
        artifact.manifest = f"m-{artifact.id}"
        place = f"{self.base}/up/artifacts/{artifact.id}.json"
        file = {"id": "f", "name": "manifest", "displayName": "manifest", "uploadUrl": place, "uploadHeaders": []}
        answer = {"artifactManifest": {"id": artifact.manifest, "file": file}}
        return {"createArtifactManifest": answer, "updateArtifactManifest": answer}

    def artifact_files(self, words: dict[str, Any]) -> Any:
        files = [
            {
                "id": s["name"], "name": s["name"], "displayName": s["name"], "storagePath": s["name"],
                "uploadUrl": f"{self.base}/up/artifacts/{s['name']}", "uploadHeaders": [], "uploadMultipartUrls": None,
                "artifact": {"id": s["artifactID"]},
            }
            for s in words.get("artifactFiles") or []
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": edges(files)}}

    def commit_artifact(self, words: dict[str, Any]) -> Any:
        artifact = self.by_id(words["artifactID"])
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": artifact.node()}}

    def use_artifact(self, words: dict[str, Any]) -> Any:
        artifact = self.by_id(words["artifactID"])
        artifact.used_by.append(words["runName"])
        return {"useArtifact": {"artifact": artifact.node()}}


def sampled(history: list[dict[str, Any]], keys: list[str] | None) -> list[dict[str, Any]]:
    return [{k: r[k] for k in keys} for r in history if all(k in r for k in keys)] if keys else history


def matches(run: Run, wanted: dict[str, Any]) -> bool:
    """The filters of the public API that tests use: equality, $in, $regex, $and, $or, on a run's fields and config."""
    known = {"group": run.group, "jobType": run.job_type, "displayName": run.display_name, "name": run.name}
    known |= {"state": run.state, "tags": run.tags}
    for key, value in wanted.items():
        if key == "$and" and not all(matches(run, w) for w in value):
            return False
        if key == "$or" and not any(matches(run, w) for w in value):
            return False
        if key in ("$and", "$or"):
            continue
        held = run.config.get(key[7:], {}).get("value") if key.startswith("config.") else known.get(key)
        if isinstance(value, dict):
            ok = (held in value["$in"]) if "$in" in value else re.search(value["$regex"], str(held)) is not None
        else:
            ok = value in held if isinstance(held, list) else held == value
        if not ok:
            return False
    return True


if __name__ == "__main__":
    serve(WandbHandler)
