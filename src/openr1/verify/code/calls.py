"""Programs around a candidate's Python: call its function with the arguments on stdin, or run asserts against it.

What a call returns leaves on a descriptor of its own, and the candidate's prints go to stderr. A candidate may still
write whatever it likes there; all that this could bring it is the expected value, which it would have to know.
"""

from __future__ import annotations

import json
from typing import Any

from openr1.verify.code.values import ENCODER

SOLUTION = "solution"  # the name that the candidate's module has: what stands under `__main__` does not run
PRELUDE = (
    "from typing import *\n"
    "import bisect, collections, functools, heapq, itertools, math, operator, random, re, string\n"
    "from bisect import *\nfrom collections import *\nfrom functools import *\nfrom heapq import *\n"
    "from itertools import *\nfrom math import *\n"
)
"""What the platforms that such problems come from have imported already.

Its names stand behind Python's own (`pow` is the builtin) and are none of the candidate's, which cannot answer with
`gcd` without a line of its own.
"""

_START = """
import ast, builtins, inspect, json, os, sys, types
from collections import Counter, OrderedDict, defaultdict, deque
_DICTS, _deque = (Counter, OrderedDict, defaultdict), deque
{encoder}

def _load(source, prelude):
    module = sys.modules[{name!r}] = types.ModuleType({name!r})
    names = {{}}
    exec(prelude, names)
    module.__builtins__ = {{**names, **vars(builtins)}}
    exec(compile(source, "solution.py", "exec"), vars(module))
    return vars(module)

def _find(namespace, name):
    if name in namespace:
        return namespace[name]
    return getattr(namespace["Solution"](), name)

def _send(out, data, *, _write=os.write):
    while data:
        data = data[_write(out, data):]
"""

_CALL = """
def _arguments(function, request):
    if "literal" in request:
        return ast.literal_eval(request["literal"]), dict(ast.literal_eval(request["keywords"]))
    given, keywords = request["args"], request["keywords"]
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return given, keywords
    try:
        signature.bind(*given, **keywords)
    except TypeError:
        try:
            signature.bind(given)
        except TypeError:
            return given, keywords
        return [given], {{}}
    return given, keywords

def _main(*, _dumps=json.dumps, _exit=os._exit):
    out = os.dup(1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.read())
    function = _find(_load({source!r}, {prelude!r}), request["name"])
    positional, keywords = _arguments(function, request)
    value = function(*positional, **keywords)
    _send(out, _dumps(_encode(value)).encode())
    _exit(0)

_main()
"""

_ASSERTS = """
class _Plain:
    # hands on what a function returns only where it is of Python's own types, so that no `__eq__` but theirs is asked
    def __init__(self, function, check):
        self._function, self._check = function, check

    def __call__(self, *positional, **keywords):
        value = self._function(*positional, **keywords)
        self._check(value)
        return value

def _main(*, _read=os.read, _exit=os._exit, _callable=callable, _type=type, _isinstance=isinstance):
    out = os.dup(1)
    os.dup2(2, 1)
    namespace = _load({source!r}, "")
    name = {name!r}
    found = _find(namespace, name) if name else None
    if _callable(found) and not _isinstance(found, _type):
        found = _Plain(found, _encode)
        namespace[name] = found
    exec(compile({tests!r}, "tests.py", "exec"), namespace)
    if name and "check" in namespace:
        namespace["check"](found)
    _send(out, _read(0, 4096))
    _exit(0)

_main()
"""


def call_program(source: str) -> str:
    """A program that reads a `request` and writes what the call returns, as `values.decode` reads it."""
    start = _START.format(encoder=ENCODER, name=SOLUTION)
    return start + _CALL.format(source=source, prelude=PRELUDE)


def assert_program(source: str, tests: str, entry_point: str | None) -> str:
    """A program that runs `tests` against the candidate and, where they all held, hands back what stands on stdin."""
    start = _START.format(encoder=ENCODER, name=SOLUTION)
    return start + _ASSERTS.format(source=source, tests=tests, name=entry_point)


def json_request(name: str, value: Any) -> str:
    """A call by JSON: a list holds the positional arguments, an object the keyword ones, all else is the only one."""
    keywords = value if isinstance(value, dict) else {}
    args = value if isinstance(value, list) else [] if isinstance(value, dict) else [value]
    return json.dumps({"name": name, "args": args, "keywords": keywords})


def literal_request(name: str, positional: str, keywords: str) -> str:
    """A call by Python literals: a tuple of positional arguments, a dictionary of keyword ones, as source text."""
    return json.dumps({"name": name, "literal": positional, "keywords": keywords})
