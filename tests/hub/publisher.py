"""A process that publishes to the test Hub, and what lies there afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from servers import Server

from .conftest import RunFolder

DRIVER = Path(__file__).with_name("driver.py")


class Publisher:
    """A process that publishes; `run` is what its command line answers."""

    def __init__(self, hub: Server, home: Path, token: str | None = "hf_write") -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
            "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", **({"HF_TOKEN": token} if token else {}),
        }  # fmt: skip
        self.environment = environment
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, str(DRIVER)], env=environment, **pipes)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def send(self, made: RunFolder, *words: str) -> None:
        self.tell("publish", str(made.folder), "--json", *words)

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[int, Any, str]:
        assert self.process.stdout is not None
        code, out, err = json.loads(self.process.stdout.readline())
        return code, json.loads(out) if out else None, err

    def fork(self, *words: str) -> int:
        """The id of a process that publishes and is not waited for."""
        self.tell("fork", "publish", *words)
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def openr1(self, *words: str) -> tuple[int, Any, str]:
        """A command line of openr1."""
        self.tell(*words)
        return self.answer()

    def run(self, made: RunFolder, *words: str) -> tuple[int, Any, str]:
        self.send(made, *words)
        return self.answer()

    def dataset(self, made: RunFolder, repo: str = "alice/traces", *words: str) -> tuple[int, Any, str]:
        return self.run(made, "--repo", repo, "--type", "dataset", *words)

    def python(self, code: str) -> str:
        """What a fresh interpreter prints that has the Hub's own clients."""
        done = subprocess.run([sys.executable, "-c", code], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


def hashes(folder: str) -> dict[str, str]:
    root = Path(folder)
    files = [p for p in root.rglob("*") if p.is_file()]
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def there(hub: Server, repo: str = "alice/traces", type: str = "dataset", revision: str = "main") -> dict[str, str]:
    files = hub.admin("files", {"type": type, "repo": repo, "revision": revision})
    return {p: h for p, h in files.items() if p != ".gitattributes"}


def titles(hub: Server, repo: str = "alice/traces", type: str = "dataset") -> list[str]:
    return list(hub.admin("commits", {"type": type, "repo": repo}))
