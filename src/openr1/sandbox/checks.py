"""What `run` was asked, looked at before anything starts: every problem is one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openr1.errors import UserError
from openr1.sandbox.outcome import Case

MB = 1 << 20
MOST_PROGRAM_MB = 4
MOST_INPUT_MB = 256
MOST_FILES = 32
MOST_ARGUMENT_BYTES = 1 << 14


_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Test:
    """A checked case: bytes all through."""

    stdin: bytes
    arguments: tuple[str, ...]
    files: dict[str, bytes]


def sources(program: object, main: str) -> dict[str, bytes]:
    """The program's files by name, the main one first; a plain text is the main file."""
    if isinstance(program, str):
        program = {main: program}
    if not isinstance(program, Mapping) or not program:
        raise UserError(f"program: a text, or a mapping of file names to texts, not {type(program).__name__}")
    found = {_name(name, "program"): _text(text, f"program {name}") for name, text in program.items()}
    if len(found) > MOST_FILES:
        raise UserError(f"program: {len(found)} files; at most {MOST_FILES} are taken")
    if sum(map(len, found.values())) > MOST_PROGRAM_MB * MB:
        raise UserError(
            f"program: {sum(map(len, found.values())) / MB:.0f} MB; at most {MOST_PROGRAM_MB} MB are taken"
        )
    return found


def tests(inputs: object, files_mb: int, taken: Sequence[str] = ()) -> list[Test]:
    """The inputs as tests; `taken` are file names that a test may not bring, `files_mb` what theirs may hold."""
    if isinstance(inputs, (str, bytes, Case)) or not isinstance(inputs, Sequence):
        raise UserError(f"inputs: a list of texts, bytes or Cases, not {type(inputs).__name__}")
    if not inputs:
        raise UserError('inputs: none given; a program that reads nothing has one empty input, [""]')
    return [_test(value, f"input {number}", files_mb, taken) for number, value in enumerate(inputs)]


def _test(value: object, where: str, files_mb: int, taken: Sequence[str]) -> Test:
    case = value if isinstance(value, Case) else Case(value) if isinstance(value, (str, bytes)) else None
    if case is None:
        raise UserError(f"{where}: a text, bytes or a Case, not {type(value).__name__}")
    if not isinstance(case.files, Mapping):
        raise UserError(f"{where}: files is a mapping of names to texts or bytes, not {type(case.files).__name__}")
    files = {_name(name, where): _data(data, f"{where}, file {name}") for name, data in case.files.items()}
    if clash := sorted(set(files) & set(taken)):
        raise UserError(f"{where}: the file name {clash[0]} is the program's own")
    if len(files) > MOST_FILES:
        raise UserError(f"{where}: {len(files)} files; at most {MOST_FILES} are taken")
    if (size := sum(map(len, files.values()))) > files_mb * MB:
        raise UserError(f"{where}: files of {size / MB:.0f} MB; limits.files_mb is {files_mb}")
    return Test(_data(case.stdin, where), _arguments(case.arguments, where), files)


def _arguments(values: object, where: str) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(v, str) for v in values):
        raise UserError(f"{where}: arguments is a sequence of texts")
    if sum(len(_text(value, f"{where}, arguments")) + 8 for value in values) > MOST_ARGUMENT_BYTES:
        raise UserError(f"{where}: arguments of more than {MOST_ARGUMENT_BYTES >> 10} KB; use stdin or a file")
    return tuple(values)


def _data(value: object, where: str) -> bytes:
    data = value if isinstance(value, bytes) else _encoded(value, where)
    if len(data) > MOST_INPUT_MB * MB:
        raise UserError(f"{where}: {len(data) / MB:.0f} MB; at most {MOST_INPUT_MB} MB are taken")
    return data


def _text(value: object, where: str) -> bytes:
    data = _encoded(value, where)
    if b"\0" in data:
        raise UserError(f"{where}: a NUL character at byte {data.index(0)}; no program or argument can hold one")
    return data


def _encoded(value: object, where: str) -> bytes:
    if not isinstance(value, str):
        raise UserError(f"{where}: a text, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: character {error.start} is half of a surrogate pair, which no encoding holds"
        ) from None


def _name(name: object, where: str) -> str:
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise UserError(f"{where}: {name!r} is no plain file name (letters, digits, '_', '-', '.'; at most 100)")
    return name
