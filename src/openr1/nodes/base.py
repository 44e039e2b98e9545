"""What a node is to one who works on it: a machine to start processes on and keep ports at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PARENT = "OPENR1_PARENT"  # the process that a started one dies with


@dataclass(frozen=True)
class Command:
    """What is started on a node: `words`, with the node's environment and `environment`.

    OPENR1_PARENT names to it who started it. `log`: where its output goes; by default standard output comes back as
    `Process.lines`. `session`: it gets a session and so a process group of its own, which is killed when it has
    ended. `scratch`: an environment variable that is to name a folder of its own, which is removed after it.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    session: bool = False
    scratch: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "words": list(self.words),
            "environment": dict(self.environment),
            "log": str(self.log) if self.log is not None else None,
            "session": self.session,
            "scratch": self.scratch,
        }

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Command:
        log = Path(raw["log"]) if raw["log"] is not None else None
        return cls(raw["words"], raw["environment"], log, raw["session"], raw["scratch"])


class Process(Protocol):
    """A started process, wherever it runs."""

    pid: int

    @property
    def lost(self) -> bool:
        """Whether its node is gone, so that nobody knows how it ended."""

    def lines(self) -> Iterator[str]:
        """What it writes to its standard output, until it has ended; nothing where that goes to a log."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired."""

    def send_signal(self, number: int) -> None: ...

    def close_input(self) -> None: ...

    def kill(self) -> None:
        """Kill it, and where it has a session of its own everything of its process group."""


class Port(Protocol):
    """A port that is kept for one who sets SO_REUSEADDR."""

    number: int

    def close(self) -> None: ...


class Node(Protocol):
    """A machine that processes can be started on. `address` is what the other nodes reach it at."""

    name: str
    address: str
    interface: str | None
    gpus: list[str]
    job: str | None

    def start(self, command: Command) -> Process: ...

    def port(self, purpose: str) -> Port: ...
