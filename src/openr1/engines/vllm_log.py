"""Why a vLLM process ended, from what it wrote and from its exit code."""

from __future__ import annotations

import re
import signal


def reason_in(log: str, code: int | None = None) -> str:
    """The line of a vLLM log that says why it ended: the last error that does not merely point at another one.

    Without one, and where it was killed (by the system, for its memory, say), it is what the exit code says, as a
    shell or subprocess counts, and the last line.

    >>> reason_in("(EngineCore pid=7) ERROR [core.py:1] ValueError: too long\\n"
    ...     "RuntimeError: Engine core initialization failed. See root cause above.\\n")
    'ValueError: too long'
    >>> reason_in("INFO: ready\\n", 137)
    'killed by SIGKILL after "INFO: ready"'
    """
    errors = re.findall(r"\b((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b: .+|vllm serve: error: .+)", log)
    telling = [e for e in errors if not re.search(r"See root cause|EngineDeadError|Engine core init", e)]
    killed = code in (128 + signal.SIGKILL, -signal.SIGKILL)  # of which no log can tell
    if errors and not killed:
        return (telling or errors)[-1].strip()[:300]
    last = next((line.strip()[:300] for line in reversed(log.splitlines()) if line.strip()), "")
    if code is None:
        return last or "it said nothing"
    return _how_it_ended(code) + (f' after "{last}"' if last else ", it said nothing")


def _how_it_ended(code: int) -> str:
    number = -code if code < 0 else code - 128
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"ended with code {code}"
