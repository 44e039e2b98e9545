"""Asserts as data: which calls they make, and what has to hold of the results. Evaluated here, outside the sandbox.

`assert candidate(2, [3]) == 5` becomes the call (2, [3]) and the expression `_0 == 5`. What goes beyond literals,
comparison, arithmetic and a few builtins (a loop, a helper, random numbers) is not converted.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST_BITS = 20_000
LARGEST_POWER = 64
LONGEST = 1_000_000  # items of a text or list that is repeated

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "float": float, "int": int, "isinstance": isinstance, "len": len,
    "list": list, "max": max, "min": min, "round": round, "set": set, "sorted": sorted, "str": str, "sum": sum,
    "tuple": tuple, "math.isclose": math.isclose, "math.fabs": math.fabs, "isclose": math.isclose,
}  # fmt: skip
CONSTANTS: dict[str, Any] = {
    "int": int, "float": float, "str": str, "list": list, "dict": dict, "tuple": tuple, "set": set, "bool": bool,
    "math.pi": math.pi, "math.inf": math.inf,
}  # fmt: skip
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert,
}  # fmt: skip


class Unsupported(Exception):
    """An expression that is not evaluated here."""


@dataclass(frozen=True)
class Call:
    """One call of the candidate: positional and keyword arguments as the text of Python literals."""

    positional: str
    keywords: str


@dataclass(frozen=True)
class Check:
    """One assert: its calls, and the expression over their results."""

    calls: tuple[Call, ...]
    expression: ast.expr

    def holds(self, results: Sequence[Any]) -> bool:
        """Whether the assert holds; an expression that raises does not."""
        names = {f"_{i}": value for i, value in enumerate(results)}
        try:
            return bool(_evaluate(self.expression, names))
        except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError, Unsupported):
            return False


def nothing_tested(code: str, entry_point: str | None) -> str | None:
    """Why a test grades nobody: it is no Python, asserts nothing, or never names the function; None where it does."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"its code is no Python ({getattr(error, 'msg', None) or type(error).__name__})"
    nodes = list(ast.walk(tree))
    names = {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    asserted = [n for n in nodes if isinstance(n, ast.Assert) and not isinstance(n.test, ast.Constant)]
    asserts = {name for name in names if name.lower().startswith("assert")}  # unittest's, NumPy's
    if not asserted and not asserts and not any(isinstance(n, ast.Raise) for n in nodes):
        return "its code asserts nothing"
    has_check = any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in tree.body)
    if entry_point is not None and entry_point not in names and not has_check:
        return f"its code never names {entry_point}"
    return None


def convert(code: str, entry_point: str | None) -> list[Check] | None:
    """The asserts of a test as checks; None where any of it is more than that.

    Read are a function `check(candidate)`, as HumanEval has it, or asserts that call the function by name, as MBPP.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    function = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None)
    body, name = tree.body, entry_point
    if function is not None:
        if entry_point is None or len(function.args.args) != 1:
            return None
        rest = [n for n in tree.body if n is not function]
        if not all(_idle(n) or (isinstance(n, ast.Assign) and _literal(n.value)) for n in rest):
            return None
        body, name = function.body, function.args.args[0].arg
    if name is None:
        return None
    checks = []
    for statement in body:
        if _idle(statement):
            continue
        check = _check(statement, name)
        if check is None:
            return None
        if check.calls:
            checks.append(check)
        elif not check.holds([]):
            return None  # an assert that fails whatever the candidate does
    return checks or None


def _idle(node: ast.stmt) -> bool:
    """A statement that does nothing here: pass, a docstring, the import of math."""
    if isinstance(node, ast.Import):
        return all(alias.name == "math" and alias.asname is None for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module == "math" and all(a.name == "isclose" and a.asname is None for a in node.names)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return False
    return True


def _check(node: ast.stmt, name: str) -> Check | None:
    if not isinstance(node, ast.Assert):
        return None
    calls = _Calls(name)
    try:
        expression: Any = calls.visit(node.test)
        _supported(expression, len(calls.found))
    except (Unsupported, RecursionError):
        return None
    return Check(tuple(calls.found), expression)


class _Calls(ast.NodeTransformer):
    """Puts `_0`, `_1`, … in the place of calls of the candidate."""

    def __init__(self, name: str) -> None:
        self.name, self.found = name, list[Call]()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not (isinstance(node.func, ast.Name) and node.func.id == self.name):
            return self.generic_visit(node)
        if not all(map(_literal, node.args)) or not all(k.arg and _literal(k.value) for k in node.keywords):
            raise Unsupported("arguments that are no literals")
        positional = ast.unparse(ast.Tuple(node.args, ast.Load()))
        keys: list[ast.expr | None] = [ast.Constant(k.arg) for k in node.keywords]
        keywords = ast.unparse(ast.Dict(keys, [k.value for k in node.keywords]))
        self.found.append(Call(positional, keywords))
        return ast.Name(f"_{len(self.found) - 1}", ast.Load())


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None


def _supported(node: ast.AST, results: int) -> None:
    """Raise Unsupported for an expression that `_evaluate` does not know."""
    name = _dotted(node)
    if name is not None:
        if name not in CONSTANTS and name not in {f"_{i}" for i in range(results)}:
            raise Unsupported(name)
        return
    if isinstance(node, ast.Call):
        if _dotted(node.func) not in FUNCTIONS or any(k.arg is None for k in node.keywords):
            raise Unsupported("a call")
        for inner in (*node.args, *(k.value for k in node.keywords)):
            _supported(inner, results)
        return
    known: tuple[type[ast.AST], ...] = (
        ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare,
        ast.Subscript,
    )  # fmt: skip
    if not isinstance(node, known):
        raise Unsupported(type(node).__name__)
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.expr):
            _supported(part, results)
        elif not isinstance(part, (ast.expr_context, ast.boolop)) and type(part) not in _BINARY | _COMPARE | _UNARY:
            raise Unsupported(type(part).__name__)


def _evaluate(node: ast.AST, names: dict[str, Any]) -> Any:
    def value(inner: ast.AST) -> Any:
        return _evaluate(inner, names)

    name = _dotted(node)
    if name is not None:
        return names[name] if name in names else CONSTANTS[name]
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple() | ast.Set():
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
            return kind(map(value, node.elts))
        case ast.Dict():
            return {value(k): value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
        case ast.Subscript():
            return value(node.value)[value(node.slice)]
        case ast.UnaryOp():
            return _UNARY[type(node.op)](value(node.operand))
        case ast.BinOp():
            return _binary(node.op, value(node.left), value(node.right))
        case ast.BoolOp(op=ast.And()):
            return all(map(value, node.values))
        case ast.BoolOp():
            return any(map(value, node.values))
        case ast.Compare():
            sides = [value(x) for x in (node.left, *node.comparators)]
            return all(_COMPARE[type(op)](sides[i], sides[i + 1]) for i, op in enumerate(node.ops))
        case ast.Call():
            keywords = {k.arg: value(k.value) for k in node.keywords if k.arg}
            return FUNCTIONS[str(_dotted(node.func))](*map(value, node.args), **keywords)
    raise Unsupported(type(node).__name__)


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    """Arithmetic that stays small, whatever the candidate returned."""
    repeated = _repeated(left, right) if isinstance(op, ast.Mult) else None
    if repeated is not None:
        if repeated > LONGEST:
            raise Unsupported("too long")
    elif isinstance(op, (ast.Mult, ast.Pow, ast.Mod)):  # `%` of a text would format whatever it says
        if not all(isinstance(x, (int, float, complex)) for x in (left, right)):
            raise Unsupported("arithmetic with what is no number")
        large = any(isinstance(x, int) and x.bit_length() > LARGEST_BITS for x in (left, right))
        if large and not isinstance(op, ast.Mod):
            raise Unsupported("too large")
        if isinstance(op, ast.Pow) and abs(right) > LARGEST_POWER:
            raise Unsupported("too large a power")
    return _BINARY[type(op)](left, right)


def _repeated(left: Any, right: Any) -> int | None:
    """How many items `text * n` or `list * n` has; None for a product of numbers."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, (str, bytes, list, tuple)) and isinstance(count, int):
            return len(sequence) * max(count, 0)
    return None


def entry_point(code: str) -> str | None:
    """The function that asserts are about where the row does not say: the only name called that is no builtin."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    nodes = list(ast.walk(tree))
    known = set(vars(builtins)) | {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    known |= {a.asname or a.name for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
    known |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)} - known
    return called.pop() if len(called) == 1 else None
