"""Names, addresses and ports of nodes."""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Iterator

import psutil

from openr1.errors import UserError

FIRST_PORT, PORTS = 15_000, 17_000  # below what kernels hand out by themselves


def expand_hosts(text: str) -> list[str]:
    """The names of Slurm's short form, in its order.

    >>> expand_hosts("node[08-10,12],gpu-a,r[1-2]n[1,3]")
    ['node08', 'node09', 'node10', 'node12', 'gpu-a', 'r1n1', 'r1n3', 'r2n1', 'r2n3']
    """
    parts = re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", text)
    return [name for part in parts for name in _expand(part)]


def _expand(part: str) -> list[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, tail = rest.partition("]")
    numbers: list[str] = []
    for piece in inside.split(","):
        first, dash, last = piece.partition("-")
        numbers += [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)] if dash else [first]
    return [head + number + end for number in numbers for end in _expand(tail)]


def address_of(interface: str) -> str:
    """The IPv4 address of a network interface of this machine. Raises UserError where it has none."""
    known = psutil.net_if_addrs()
    for found in known.get(interface, []):
        if found.family == socket.AF_INET:
            return str(found.address)
    having = [name for name, every in known.items() if any(a.family == socket.AF_INET for a in every)]
    raise UserError(
        f"network interface {interface} is not there or has no IPv4 address; this machine has {', '.join(having)}"
    )


def interface_of(address: str) -> str | None:
    """The name of the interface that has `address`, where that can be told."""
    for name, every in psutil.net_if_addrs().items():
        for found in every:
            if found.address == address or (address.startswith("127.") and str(found.address).startswith("127.")):
                return str(name)
    return None


def address_towards(other: str) -> str:
    """The address of this machine from which it reaches `other` (nothing is sent). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))
        return str(probe.getsockname()[0])


def ports_of(job: str, purpose: str) -> Iterator[int]:
    """The ports that a job tries for `purpose`, in its order: another job begins elsewhere."""
    start = zlib.crc32(f"{job}/{purpose}".encode())
    for i in range(PORTS):
        yield FIRST_PORT + (start + i) % PORTS


def bind(address: str, ports: Iterator[int] | None = None, keep: bool = False) -> socket.socket:
    """A listening socket on the first of `ports` that is free, or on one that the kernel chooses.

    With `keep` it does not listen: the kernel hands the port to nobody else, and one who sets SO_REUSEADDR, as vLLM
    does, may listen on it.
    """
    for port in ports if ports is not None else (0,):
        bound = socket.socket()
        try:
            bound.bind((address, port))  # fails where another one listens on it or keeps it
            if not keep:
                bound.listen(128)
                return bound
            port = bound.getsockname()[1]
            bound.close()
            bound = socket.socket()
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
            return bound
        except OSError:
            bound.close()
    raise UserError(f"no free port on {address}; end what listens there")
