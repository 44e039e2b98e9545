"""Names, addresses and ports of nodes."""

from __future__ import annotations

import socket
from itertools import islice

import psutil
import pytest

from openr1.errors import UserError
from openr1.nodes.network import address_of, bind, expand_hosts, interface_of, ports_of


@pytest.mark.parametrize(
    ("short", "names"),
    [
        ("node1", ["node1"]),
        ("node[1-3]", ["node1", "node2", "node3"]),
        ("n[008-011]", ["n008", "n009", "n010", "n011"]),
        ("gpu-a,b[1,3-4]-ib,c", ["gpu-a", "b1-ib", "b3-ib", "b4-ib", "c"]),
        ("r[1-2]n[7-8]", ["r1n7", "r1n8", "r2n7", "r2n8"]),
    ],
)
def test_slurms_short_form(short: str, names: list[str]) -> None:
    assert expand_hosts(short) == names


def test_the_loopback_interface_and_back() -> None:
    name = next(n for n, every in psutil.net_if_addrs().items() if any(a.address == "127.0.0.1" for a in every))
    assert address_of(name) == "127.0.0.1" and interface_of("127.0.0.1") == name
    assert interface_of("127.0.0.11") == name  # all of 127/8 is
    assert interface_of("203.0.113.9") is None
    with pytest.raises(UserError, match=f"network interface ib7 is not there .* this machine has .*{name}"):
        address_of("ib7")


def test_ports_hang_on_the_job_and_what_is_taken_is_passed_over() -> None:
    first = list(islice(ports_of("17", "ranks"), 3))
    assert first == list(islice(ports_of("17", "ranks"), 3)) != list(islice(ports_of("18", "ranks"), 3))
    assert all(15_000 <= port < 32_000 for port in first)
    with bind("127.0.0.1", iter(first)) as one, bind("127.0.0.1", iter(first), keep=True) as two:
        assert one.getsockname()[1] == first[0] and two.getsockname()[1] == first[1]
        with bind("127.0.0.1", iter(first)) as three:  # one that is only kept is taken, too
            assert three.getsockname()[1] == first[2]
        with socket.socket() as server:  # and its owner may listen on it
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", first[1]))
            server.listen()
        with pytest.raises(UserError, match="no free port"):
            bind("127.0.0.1", iter(first[:1]))
