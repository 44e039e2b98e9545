"""The child's last steps: become the program. Nothing of what it says is believed but its output and how it ended."""

from __future__ import annotations

import atexit
import builtins
import linecache
import marshal
import os
import signal
import struct
import sys
import threading
import traceback
import types

NAME = "solution.py"
FAILED, COMPILED, OURS = b"E", b"C", b"X"


def compiled(source: int, cache: int) -> types.CodeType:
    """The program as code; made once a program and kept in `cache`, which no program ever holds open.

    The mark in front is written last, so that a compiler that was killed leaves nothing. A program that does not
    compile says so there and ends.
    """
    kept = os.pread(cache, 9, 0)
    if len(kept) == 9 and kept[:1] == COMPILED:
        code = marshal.loads(os.pread(cache, struct.unpack("<Q", kept[1:])[0], 9))
        assert isinstance(code, types.CodeType)
        return code
    text = os.pread(source, os.fstat(source).st_size, 0)
    try:
        made = compile(text, NAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        traceback.print_exc(limit=0)
        os.pwrite(cache, FAILED, 0)
        os._exit(1)
    if sys.implementation.name == "cpython":
        data = marshal.dumps(made)
        if os.pwrite(cache, data, 9) == len(data):
            os.pwrite(cache, COMPILED + struct.pack("<Q", len(data)), 0)
    return made


def run_python(source: int, cache: int, arguments: list[str]) -> None:
    """Run the program as `__main__` would be, and never come back."""
    code = compiled(source, cache)
    lines = os.pread(source, os.fstat(source).st_size, 0).decode("utf-8", "replace")
    os.close(source)
    os.close(cache)
    linecache.cache[NAME] = (len(lines), None, lines.splitlines(True), NAME)
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __file__=NAME)
    sys.modules["__main__"] = main
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as in every Python
    sys.argv = [NAME, *arguments]
    status = 1
    try:
        status = _finish(_execute(code, main))
    finally:
        os._exit(status)


def start(fd: int, command: list[str], environment: dict[str, str]) -> None:
    """Become the executable that is open as `fd`; one that the kernel does not take is the program's fault."""
    try:
        os.execve(fd, command, environment)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(126)


def _execute(code: types.CodeType, main: types.ModuleType) -> int:
    try:
        exec(code, main.__dict__)
        return 0
    except SystemExit as end:
        return _exit_code(end.code)
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this function's own line
        _flush()
        traceback.print_exception(type(error), error, error.__traceback__)
        return 1


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255
    print(code, file=sys.stderr)
    return 1


def _finish(status: int) -> int:
    """What an interpreter does at its end: threads, atexit, the last of the output."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _flush()
    return status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
