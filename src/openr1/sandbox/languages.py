"""The languages, as a table. A language needs no code: a compiler and its flags, or an interpreter."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from openr1.errors import UserError, did_you_mean

OUTPUT = "program"


@dataclass(frozen=True)
class Language:
    """How a program of this language is made and started.

    `python` programs run in a fork of a warm interpreter. With `compiler`, the sources are compiled to one executable,
    `{sources}` and `{output}` in `arguments` standing for the files. With `interpreter`, it is started with the file.
    """

    name: str
    source: str
    """What the main file is called."""
    aliases: tuple[str, ...] = ()
    compiler: str | None = None
    interpreter: str | None = None
    arguments: tuple[str, ...] = ()
    hint: str = ""
    """How to get the tool."""

    @property
    def tool(self) -> str | None:
        return self.compiler or self.interpreter

    def tool_path(self) -> str:
        """Where the compiler or interpreter is; a clear refusal where it is not."""
        assert self.tool is not None
        found = shutil.which(self.tool)
        if found is None:
            raise UserError(f"language {self.name}: {self.tool} is not on this machine; {self.hint or 'install it'}")
        return os.path.realpath(found)


_GNU = ("-O2", "-pipe", "-w", "-o", "{output}", "{sources}", "-lm")
_PACKAGES = "install gcc and g++ (Debian: apt-get install g++)"
LANGUAGES: dict[str, Language] = {}


def register_language(language: Language) -> None:
    """Make a language known under its name and aliases."""
    for name in (language.name, *language.aliases):
        LANGUAGES[name] = language


for _language in (
    Language("python", "solution.py", aliases=("python3", "py")),
    Language("c", "main.c", compiler="gcc", arguments=("-std=gnu17", *_GNU), hint=_PACKAGES),
    Language(
        "cpp", "main.cpp", aliases=("c++", "cpp17"), compiler="g++", arguments=("-std=gnu++17", *_GNU), hint=_PACKAGES
    ),
):
    register_language(_language)


def language_of(name: str) -> Language:
    """The language of this name, however its case."""
    found = LANGUAGES.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        raise UserError(f"language {name!r} is not known; {did_you_mean(str(name), LANGUAGES)}")
    return found
