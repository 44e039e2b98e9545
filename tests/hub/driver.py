"""Runs `openr1` command lines, one a line of standard input, in one process; waits are a twentieth of the real ones.

Tests of the Hub call it a hundred times: an interpreter each would cost minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(seconds / 20)

from openr1.cli import run_cli  # noqa: E402
from openr1.hub import remote  # noqa: E402

remote.CALL_SECONDS = 1.0

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_cli(json.loads(line))
    sys.stdout.write(json.dumps([code, out.getvalue(), err.getvalue()]) + "\n")
    sys.stdout.flush()
