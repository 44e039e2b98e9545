"""The pre-flight of a job: before anything is loaded every node shows that it can take part, and a bad one is named.

Each node is asked for its GPUs and their memory, its packages, the space on its disks, and whether it sees a file that
the first one has written; then all of them reduce a small tensor together.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openr1.config.cluster import ClusterSettings
from openr1.errors import OutsideError
from openr1.launch import hardware
from openr1.launch.ranks import places, rank_environment
from openr1.launch.run import LEAST_FREE_BYTES
from openr1.manifest import package_versions, write_atomic
from openr1.nodes.base import Command, Node, Process
from openr1.nodes.network import bind, ports_of

CANARY, CANARY_BYTES = "canary", 1 << 16
POLL_S = 0.1
SPARE = 0.95  # drivers keep some memory of a GPU for themselves
FAKE = "fake"  # the GPU of a site that has only its name


class BadNodes(OutsideError):
    """Nodes that cannot take part, with the reason of each."""

    def __init__(self, problems: Mapping[str, Sequence[str]]) -> None:
        self.nodes = sorted(problems)
        super().__init__("; ".join(f"{node}: {', '.join(problems[node])}" for node in self.nodes))


# ------------------------------------------------------------------------------------------------- on every node
def examine(run: Path, canary: Path, gpus: int) -> dict[str, Any]:
    """What this node has, as JSON. `gpus`: how many Slurm gave to the job here."""
    try:
        seen: str | None = hashlib.sha256(canary.read_bytes()).hexdigest()
    except OSError:
        seen = None
    disks = {str(place): _free(place) for place in (run, Path(tempfile.gettempdir()))}
    found = [list(gpu) for gpu in hardware.gpu_memory()]
    return {"versions": package_versions(), "gpus": found, "given": gpus, "disks": disks, "canary": seen}


def _free(place: Path) -> int | None:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


# ------------------------------------------------------------------------------------------------ on the first one
def write_canary(folder: Path) -> tuple[Path, str]:
    """A file for the other nodes to read, and its hash."""
    content = secrets.token_bytes(CANARY_BYTES)
    write_atomic(folder / CANARY, content)
    return folder / CANARY, hashlib.sha256(content).hexdigest()


def judge(reports: Mapping[str, Mapping[str, Any]], site: ClusterSettings, canary: str) -> dict[str, list[str]]:
    """What is wrong with each node, by its name; nodes that are well are left out. The first report is the first
    node's, with which the others are compared."""
    usual = _usual([report["versions"] for report in reports.values()])
    found = {}
    for name, report in reports.items():
        problems = _gpu_problems(report, site)
        if report["canary"] != canary:
            problems.append("does not see what the first node writes into the run's folder: no shared file system")
        problems += [
            f"{'no disk' if free is None else f'{free // 1024**2} MB free'} at {place}, a job needs "
            f"{LEAST_FREE_BYTES // 1024**2} MB"
            for place, free in report["disks"].items()
            if free is None or free < LEAST_FREE_BYTES
        ]
        mine = report["versions"]
        others = [f"{p} {mine.get(p)} where the others have {v}" for p, v in usual.items() if mine.get(p) != v]
        others += [f"{p} {v} which the others have not" for p, v in mine.items() if p not in usual]
        if problems + others:
            found[name] = problems + others
    return found


def _usual(versions: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """The packages that most nodes have; where none is in the majority, the first one's."""
    texts = [json.dumps(dict(v), sort_keys=True) for v in versions]
    (text, count), *_ = Counter(texts).most_common()
    usual: Mapping[str, str] = json.loads(text if 2 * count > len(texts) else texts[0])
    return usual


def _gpu_problems(report: Mapping[str, Any], site: ClusterSettings) -> list[str]:
    if site.gpu == FAKE or not report["given"]:
        return []
    problems = []
    if len(report["gpus"]) < report["given"]:
        problems.append(f"{len(report['gpus'])} GPUs answer, the job was given {report['given']}")
    small = [gib for _, gib in report["gpus"] if site.gpu_memory_gib and gib < SPARE * site.gpu_memory_gib]
    if small:
        problems.append(
            f"a GPU of {min(small):.1f} GiB where cluster {site.name} says {site.gpu_memory_gib:g} (gpu_memory_gib)"
        )
    return problems


# ---------------------------------------------------------------------------------------------------- all-reduce
def all_reduce(nodes: Sequence[Node], until: float) -> None:
    """Let all nodes (all of their GPUs, where they have some) sum a tensor. Raises BadNodes, before `until`.

    Where that fails and nobody says why, each node tries it with the first one alone.
    """
    half = time.monotonic() + (until - time.monotonic()) / 2
    problems = Reduction(nodes, "reduce").problems(half)
    if not problems:
        return
    if len(nodes) <= 2 or any(problems.values()):
        silent = "its part of an all-reduce does not end"
        blamed = {n: [p or silent] for n, p in problems.items() if p or not any(problems.values())}
        if len(blamed) > 1:
            blamed.pop(nodes[0].name, None)  # one that cannot be reached makes the first one fail as well
        raise BadNodes(blamed)
    pairs = {node.name: Reduction([nodes[0], node], f"reduce {node.name}") for node in nodes[1:]}
    failing = [name for name, pair in pairs.items() if pair.problems(until)]
    if not failing:
        raise OutsideError(f"an all-reduce over {len(nodes)} nodes does not end, over each two of them it does")
    bad = [nodes[0].name] if len(failing) == len(pairs) else failing
    raise BadNodes({name: ["an all-reduce with it does not end"] for name in bad})


class Reduction:
    """An all-reduce under way, on a process a GPU or else a process a node."""

    def __init__(self, nodes: Sequence[Node], purpose: str) -> None:
        self.nodes = nodes
        count = len(nodes) * max(1, min(len(node.gpus) for node in nodes) if hardware.gpu_count() else 1)
        kept = bind(nodes[0].address, ports_of(nodes[0].job or "", purpose))
        port = kept.getsockname()[1]
        kept.close()
        self.said: dict[str, list[dict[str, Any]]] = {node.name: [] for node in nodes}
        self.processes: list[Process] = []
        self.threads: list[threading.Thread] = []
        self.broken: dict[str, str] = {}
        command = [sys.executable, "-m", "openr1.launch.reduce", "25"]
        for place in places(nodes, count):
            environment = rank_environment(place, nodes[0].address, port) | {"TORCHELASTIC_USE_AGENT_STORE": "False"}
            try:
                process = place.node.start(Command(command, environment))
            except OutsideError as e:
                self.broken[place.node.name] = str(e)
                continue
            self.processes.append(process)
            thread = threading.Thread(target=self._listen, args=(place.node.name, process), daemon=True)
            thread.start()
            self.threads.append(thread)
        self.each = count // len(nodes)

    def _listen(self, name: str, process: Process) -> None:
        for line in process.lines():
            with suppress(ValueError):
                self.said[name].append(json.loads(line))

    def _failed(self) -> bool:
        told = any(e["event"] == "failed" for events in self.said.values() for e in events)
        return bool(told or self.broken or any(p.poll() for p in self.processes))

    def problems(self, until: float) -> dict[str, str]:
        """Node -> its reason ("" where it has none) for every node whose part does not end well by then."""
        while any(t.is_alive() for t in self.threads) and time.monotonic() < until and not self._failed():
            time.sleep(POLL_S)
        for thread in self.threads if self._failed() else []:  # what the others make of it is said at once, or never
            thread.join(POLL_S)
        for process in self.processes:
            process.kill()
        found: dict[str, str] = {}
        for name, events in self.said.items():
            if sum(e["event"] == "sum" for e in events) == self.each:
                continue
            reasons = [e["reason"] for e in events if e["event"] == "failed"]
            started = sum(e["event"] == "here" for e in events) == self.each
            own = self.broken.get(name) or next((f"all-reduce: {r}" for r in reasons if not started), "")
            found[name] = own if started or own else "its part of an all-reduce does not start"
        return found
