"""The scan before anything leaves: well-known shapes of credentials, and absolute home paths.

What is covered: every text file, every string in a Parquet file (nested ones too), the header of a safetensors file.
What is not: secrets without a known shape (passwords, session cookies), personal data, text inside model weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PATTERNS: dict[str, re.Pattern[str]] = {
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "Anthropic key": re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    "OpenAI key": re.compile(r"\bsk-(?!ant-)(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]{3,}@"),
    "W&B key": re.compile(r"WANDB_API_KEY\W{1,4}[0-9a-f]{40}\b"),
    "home path": re.compile(
        r"(?:/home/|/Users/)[^\s/\"'<>|:]+(?=/)|/root/[^\s\"'<>|:]+|\b[A-Za-z]:\\Users\\[^\\\s\"]+"
    ),
}
BATCH = 4096
HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Finding:
    """Something that must not leave: what, in which file, where in it, and the text with its middle masked."""

    what: str
    file: str
    where: str
    masked: str

    def __str__(self) -> str:
        return f"{self.file} ({self.where}): {self.what} {self.masked}"


def mask(what: str, secret: str) -> str:
    """Enough to find it again, not enough to use it; a path is no secret to the one who reads the message."""
    if what == "home path":
        return secret
    return secret if what == "private key" else f"{secret[:4]}…{len(secret)} characters"


def scan_text(text: str) -> Iterator[tuple[str, int, str]]:
    """(what, position, masked) of everything found in `text`."""
    for what, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            yield what, match.start(), mask(what, match.group())


def scan_folder(folder: Path) -> list[Finding]:
    """Everything found in the files below `folder`, in file order."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [finding for path in files for finding in _scan_file(path, path.relative_to(folder).as_posix())]


def _scan_file(path: Path, name: str) -> Iterator[Finding]:
    if path.suffix == ".parquet":
        yield from _scan_parquet(path, name)
        return
    if path.suffix == ".safetensors":
        yield from _findings(name, "header", _safetensors_header(path))
        return
    text = path.read_bytes().decode("utf-8", "replace")
    for what, position, masked in scan_text(text):
        yield Finding(what, name, f"line {text.count(chr(10), 0, position) + 1}", masked)


def _findings(name: str, where: str, text: str) -> Iterator[Finding]:
    for what, _, masked in scan_text(text):
        yield Finding(what, name, where, masked)


def _scan_parquet(path: Path, name: str) -> Iterator[Finding]:
    """A column's strings are searched together; only where something is found, row by row."""
    with pq.ParquetFile(path) as file:
        for key, value in (file.schema_arrow.metadata or {}).items():
            yield from _findings(name, "metadata", f"{key.decode(errors='replace')}\n{value.decode(errors='replace')}")
        start = 0
        for batch in file.iter_batches(BATCH):
            for column, values in batch.to_pydict().items():
                if any(scan_text("\n".join(_strings(values)))):
                    for i, value in enumerate(values):
                        yield from _findings(name, f"row {start + i}, column {column}", "\n".join(_strings(value)))
            start += batch.num_rows


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _safetensors_header(path: Path) -> str:
    """The JSON before the weights: an 8-byte little-endian length, then that many bytes."""
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = f.read(min(length, HEADER_LIMIT)).decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(header).get("__metadata__", {}), ensure_ascii=False)
    except (ValueError, AttributeError):
        return header
