"""What a child gives up before it runs a program: limits, capabilities, files (Landlock) and system calls (seccomp).

Nothing here can be undone by the program, and each step raises where the kernel refuses it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from typing import Any

from . import syscalls

_libc = ctypes.CDLL(None, use_errno=True)
MACHINE = platform.machine()
MB = 1 << 20
THREADS = 64
VIRTUAL_MB = 256  # address space beyond the memory limit, for the stacks of threads, which are reserved and not used
STACK_MB = 64
OPEN_FILES = 128

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_PR_SET_CHILD_SUBREAPER, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAP_VERSION = 0x20080522
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR, _EXECUTE, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 0, 1 << 1
_FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, *values: int) -> None:
    padded = (*values, 0, 0, 0, 0)[:4]
    _check(_libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)), f"prctl {option}")


def die_with_parent() -> None:
    prctl(_PR_SET_PDEATHSIG, 9)


def adopt_orphans() -> None:
    """Processes whose parents ended become children of this one, so none gets away."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def dumpable(yes: bool) -> None:
    """Whether /proc/PID of this process may be read and it may be traced by others of the same user."""
    prctl(_PR_SET_DUMPABLE, int(yes))


def mount(kind: bytes, where: bytes, options: bytes, flags: int) -> None:
    _check(
        _libc.mount(kind, where, kind, ctypes.c_ulong(flags), options), f"mount {kind.decode()} on {where.decode()}"
    )


def unmount(where: bytes) -> None:
    _check(_libc.umount2(where, 2), f"unmount {where.decode()}")  # MNT_DETACH


def drop_capabilities(bounding: bool) -> None:
    """No capability is left, nor can one come back; `bounding` needs CAP_SETPCAP."""
    if bounding:
        for number in range(64):
            if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0:
                break  # the kernel knows no more of them
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header, data = struct.pack("<II", _CAP_VERSION, 0), bytes(24)
    _check(_libc.syscall(_CAPSET[MACHINE], header, data), "capset")


def limit_resources(limits: dict[str, Any], count_processes: bool, base_mb: int) -> None:
    """rlimits, soft and hard alike; `base_mb` is what the interpreter itself has mapped."""
    memory = (base_mb + limits["memory_mb"] + VIRTUAL_MB) * MB
    values = [
        (resource.RLIMIT_CORE, 1),  # at 0 the kernel still starts a crash handler; at 1 it does not
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, max(1, -int(-limits["cpu_s"] // 1))),
        (resource.RLIMIT_FSIZE, max(limits["files_mb"], limits["output_mb"] + 1) * MB),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 256),
        (resource.RLIMIT_STACK, min(STACK_MB, limits["memory_mb"]) * MB),
    ]
    if count_processes:  # the kernel counts by user; only in a user namespace of our own are they ours
        values.append((resource.RLIMIT_NPROC, limits["processes"] + THREADS))
    for kind, value in values:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def install_filter(*, processes: bool, start: bool, own_namespace: bool) -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    program = syscalls.seccomp_filter(
        MACHINE, os.getpid(), processes=processes, start=start, own_namespace=own_namespace
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("<H6xQ", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), header, 0, 0), "seccomp")


# -------------------------------------------------------------------------------------------------------- Landlock
def landlock_version() -> int:
    """The ABI of the kernel's Landlock, 0 where there is none."""
    version: int = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(0, version)


def landlock_ruleset(listable: list[str], readable: list[str], writable: list[str]) -> int:
    """An open ruleset: what is below `readable` may be read and executed, below `writable` everything, else nothing.

    Folders below `listable` show the names in them.
    """
    abi = landlock_version()
    if not abi:
        raise OSError("this kernel has no Landlock")
    handled = _FS_RIGHTS[min(abi, 5)]
    attributes = struct.pack("<Q", handled)
    if abi >= 4:
        attributes += struct.pack("<Q", 3)  # no TCP bind or connect
    if abi >= 6:
        attributes += struct.pack("<Q", 3)  # no abstract sockets of, and no signals to, what is outside
    ruleset = _check(
        _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)), "landlock"
    )
    for path in listable:
        _allow(ruleset, path, _READ_DIR)
    for path in readable:
        _allow(ruleset, path, _EXECUTE | _READ_FILE | _READ_DIR | (_WRITE_FILE if path == "/dev/null" else 0))
    for path in writable:
        _allow(ruleset, path, handled)
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _READ_FILE | _WRITE_FILE
        rule = struct.pack("<Qi", rights, fd)
        _check(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, ctypes.c_uint(0)), f"landlock: {path}")
    finally:
        os.close(fd)


def landlock_enter(ruleset: int) -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _check(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)), "landlock")
