"""Runs `openr1` command lines, one a line of standard input, in one process; waits are a twentieth of the real ones.

Tests of the Hub call it a hundred times: an interpreter each would cost minutes. A line `["fork", …]` is run by a
process of its own, to be killed; the answer is its id.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import time

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(seconds / 20)

from openr1.cli import run_cli  # noqa: E402
from openr1.hub import remote  # noqa: E402

remote.CALL_SECONDS = 1.0
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a process that was killed


def answer(words: list[str]) -> list[object]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_cli(words)
    return [code, out.getvalue(), err.getvalue()]


for line in sys.stdin:
    words = json.loads(line)
    if words[0] != "fork":
        print(json.dumps(answer(words)), flush=True)
    elif child := os.fork():
        print(child, flush=True)
    else:
        answer(words[1:])
        os._exit(0)
