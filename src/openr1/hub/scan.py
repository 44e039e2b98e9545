"""The scan before anything leaves: credentials, personal data and home paths, each shown masked.

What is covered: every text file, every string in a Parquet file (nested ones and the schema's metadata too), the
header of a safetensors file. Credentials are found by shapes of ours and by the detectors of `detect-secrets`.
What is not: secrets without a known shape (passwords, session cookies), names and addresses of people, text inside
model weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
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
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]{3,}@"),
    "W&B key": re.compile(r"WANDB_API_KEY\W{1,4}[0-9a-zA-Z_]{40,}\b"),
    "AWS secret key": re.compile(r"(?i:aws_?secret_?(?:access_?)?key)\W{1,6}[0-9a-zA-Z/+]{40}(?![0-9a-zA-Z/+])"),
    "home path": re.compile(
        r"(?:/home/|/Users/)[^\s/\"'<>|:]+(?=/)|/root/[^\s\"'<>|:]+|\b[A-Za-z]:\\Users\\[^\\\s\"]+"
    ),
}
# detectors that judge by entropy or by words such as "password" call ordinary text and numbers secrets
LEFT_OUT = ("Entropy", "Keyword", "IPPublic", "BasicAuth", "PrivateKey", "Artifactory")
# words of which a text must hold one (in any case) before a slow pattern is tried on it
WORDS: dict[str, tuple[str, ...]] = {
    "Hugging Face token": ("hf_",),
    "AWS access key": ("akia", "asia"),
    "Anthropic key": ("sk-ant-",),
    "OpenAI key": ("sk-",),
    "GitHub token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "Google API key": ("aiza",),
    "Slack token": ("xox",),
    "password in a URL": ("://",),
    "home path": ("/home/", "/users/", "/root/", "\\users\\"),
    "Cloudant Credentials": ("cloudant",),
    "IBM COS HMAC Credentials": ("key", "pwd", "pass", "token"),
    "IBM Cloud IAM Key": ("key", "pwd", "pass", "token"),
    "SoftLayer Credentials": ("softlayer", "sl_", "sl-"),
    "Mailchimp Access Key": ("-us",),
    "Telegram Bot Token": (":aa",),
}
EMAIL = re.compile(r"\b[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9])?@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,18}\b")
PHONE = re.compile(r"(?<![\w+])\+[1-9]\d{0,2}[ -]\(?\d{1,4}\)?(?:[ -]\d{2,4}){2,4}\b")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
EMAIL_LIST = 3  # that many different addresses are a list
BATCH = 4096
HEADER_LIMIT = 100_000_000
HOME_PATH, LIST = "home path", "list of e-mail addresses"


@dataclass(frozen=True)
class Finding:
    """Something that must not leave: what, in which file, where in it, and the text with its middle masked."""

    what: str
    file: str
    where: str
    masked: str

    def __str__(self) -> str:
        return f"{self.file} ({self.where}): {self.what} {self.masked}"


@dataclass
class Scan:
    """What was found. `personal` counts what may be personal data: e-mail addresses, phone numbers, IBANs."""

    findings: list[Finding] = field(default_factory=list)
    emails: dict[str, tuple[str, str]] = field(default_factory=dict)  # address -> file and place
    phones: int = 0
    ibans: int = 0

    @property
    def personal(self) -> dict[str, int]:
        return {"e-mail addresses": len(self.emails), "phone numbers": self.phones, "IBANs": self.ibans}

    def look(self, text: str, file: str, where: str) -> None:
        """Take note of everything in `text`, a piece of `file`."""
        for what, _, masked in scan_text(text):
            self.findings.append(Finding(what, file, where, masked))
        if "@" in text:
            for match in EMAIL.finditer(text):
                self.emails.setdefault(match.group().lower(), (file, where))
        self.phones += sum(1 for _ in PHONE.finditer(text)) if "+" in text else 0
        self.ibans += sum(1 for m in IBAN.finditer(text) if _is_iban(m.group()))

    def list_of_addresses(self) -> Finding | None:
        """The e-mail addresses as one finding, where there are so many that they are a list."""
        if len(self.emails) < EMAIL_LIST:
            return None
        first, (file, where) = next(iter(self.emails.items()))
        name, _, domain = first.partition("@")
        shown = f"{name[:1]}…@{domain} and {len(self.emails) - 1:,} others"
        return Finding(LIST, file, f"the first in {where}", shown)


def mask(what: str, secret: str) -> str:
    """Enough to find it again, not enough to use it; a path is no secret to the one who reads the message."""
    if what in (HOME_PATH, "private key"):
        return secret
    return f"{secret[:4]}…{len(secret)} characters"


@cache
def _detectors() -> list[tuple[str, Any]]:
    """(name, detector) of detect-secrets, those that go by shape."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    found: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return [(name, kind()) for name, kind in sorted(found.items()) if not any(w in kind.__name__ for w in LEFT_OUT)]


def scan_text(text: str) -> Iterator[tuple[str, int, str]]:
    """(what, position, masked) of everything found in `text` that must not leave; each place once."""
    taken: list[tuple[int, int]] = []
    lower = text.lower()
    for what, pattern in PATTERNS.items():
        for match in pattern.finditer(text) if _may_hold(lower, what) else ():
            taken.append(match.span())
            yield what, match.start(), mask(what, match.group())
    for what, detector in _detectors():
        for secret in detector.analyze_string(text) if _may_hold(lower, what) else ():
            at = text.find(secret)
            if secret and not any(a < at + len(secret) and at < b for a, b in taken):
                taken.append((at, at + len(secret)))
                yield what, at, mask(what, secret)


def _may_hold(lower: str, what: str) -> bool:
    return what not in WORDS or any(word in lower for word in WORDS[what])


def scan_folder(folder: Path) -> Scan:
    """Everything found in the files below `folder`, in file order."""
    scan = Scan()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        scan_file(scan, path, path.relative_to(folder).as_posix())
    return scan


def scan_file(scan: Scan, path: Path, name: str) -> None:
    if path.suffix == ".parquet":
        _scan_parquet(scan, path, name)
    elif path.suffix == ".safetensors":
        scan.look(_safetensors_header(path), name, "header")
    else:
        text = path.read_bytes().decode("utf-8", "replace")
        if _suspect(text):
            for number, line in enumerate(text.split("\n"), 1):
                scan.look(line, name, f"line {number}")


def _suspect(text: str) -> bool:
    """Whether anything would be found in `text`: asked of many rows at once, to look closer at few."""
    personal = ("@" in text and EMAIL.search(text)) or ("+" in text and PHONE.search(text))
    return (
        bool(personal) or any(_is_iban(m.group()) for m in IBAN.finditer(text)) or any(True for _ in scan_text(text))
    )


def _scan_parquet(scan: Scan, path: Path, name: str) -> None:
    """A column's strings are searched together; only where something is found, row by row."""
    with pq.ParquetFile(path) as file:
        for key, value in (file.schema_arrow.metadata or {}).items():
            text = f"{key.decode(errors='replace')}\n{value.decode(errors='replace')}"
            if not key.startswith(b"ARROW:"):
                scan.look(text, name, "metadata")
        start = 0
        for batch in file.iter_batches(BATCH):
            for column, values in batch.to_pydict().items():
                if _suspect("\n".join(_strings(values))):
                    for i, value in enumerate(values):
                        scan.look("\n".join(_strings(value)), name, f"row {start + i}, column {column}")
            start += batch.num_rows


def _strings(value: Any) -> Iterable[str]:
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


def _is_iban(text: str) -> bool:
    """Whether the check digits hold (ISO 13616), so that a formula is not taken for an account."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _safetensors_header(path: Path) -> str:
    """The JSON before the weights: an 8-byte little-endian length, then that many bytes."""
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = f.read(min(length, HEADER_LIMIT)).decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(header).get("__metadata__", {}), ensure_ascii=False)
    except (ValueError, AttributeError):
        return header
