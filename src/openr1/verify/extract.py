r"""Where the final answer of a completion is: reasoning split off, the last box, the last `<answer>`.

Everything here is a pure function in linear time, because completions are written by models under optimisation
pressure. math-verify is never shown the whole text: it joins several boxes of one paragraph into one number.

The rules, in order (docs/grading.md states them for users):
1. The answer part is what follows the last `</think>`; an unclosed `<think>` leaves no answer part.
2. Of the boxes (`\boxed`, `\fbox`) and `<answer>` blocks in it, what ends last counts; a box inside an `<answer>`
   block is that block's answer.
3. Without either, an anchored line (`#### 42`, `The answer is 42.`, `Final answer: 42`) counts, the last one first.
   The line may stand below its heading (`**Final Answer**`), or in a display of its own.
4. Without an anchor, a last line that is nothing but mathematics or bold (`$42$`, `\[42\]`, `**42**`) is the answer,
   and so is an answer part that is one short line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_BARE = 200

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_UNBRACED = re.compile(r"\s*([^\s{}$\\]+)")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_ANCHOR = re.compile(
    r"(?:\bfinal\s+answer\b|\banswer\b)(?:\s+(?:is|equals)\b|\s*[:=]|\s*\*\*\s*:|\s*:\s*\*\*)[\s:*_]*", re.IGNORECASE
)
_HEADING = re.compile(r"^[#*_ \t]*(?:the\s+)?(?:final\s+)?answer[*_: \t]*$", re.IGNORECASE | re.MULTILINE)
_HASHES = re.compile(r"(?m)^[ \t]*####[ \t]*(?!(?:the\s+)?(?:final\s+)?answer\b)(\S[^\n]*)$", re.IGNORECASE)
_DISPLAY = re.compile(r"\s*(?:\\\[(?P<a>.{1,400}?)\\\]|\$\$(?P<b>[^$]{1,400})\$\$)", re.DOTALL)
_LAST_LINE = re.compile(
    r"\*\*(?P<a>[^*\n]{1,200})\*\*|\$\$(?P<b>[^$]{1,200})\$\$|\$(?P<c>[^$\n]{1,200})\$|\\\((?P<d>[^\n]{1,200}?)\\\)"
    r"|\\\[(?P<e>.{1,200}?)\\\]",
    re.DOTALL,
)
_REASON = re.compile(r",?\s{1,3}(?:because|since)\b|\s{1,3}\((?:see|as|since|because)\b")
_SPECIAL = re.compile(r"<[|｜][^<>\n]{1,40}[|｜]>|</s>|<eos>|<end_of_turn>")
_PROSE = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A completion split at its reasoning. `answer` is empty while the reasoning is open."""

    reasoning: str | None
    answer: str
    closed: bool
    opened: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A final answer and how it was found: `box`, `tag`, `anchor` or `bare`; `closed` says its end was seen."""

    text: str
    how: str
    closed: bool


def split_reasoning(text: str) -> Reasoning:
    """Split off the reasoning: R1's native form, a prefilled `<think>` (only the closing tag is there), or none.

    >>> split_reasoning("<think>2+2</think>4").answer
    '4'
    >>> split_reasoning("<think>2+2").answer
    ''
    """
    close = text.rfind("</think>")
    start = text.find("<think>")
    if close < 0:
        if start < 0:
            return Reasoning(None, text, closed=False, opened=False)
        return Reasoning(text[start + 7 :], "", closed=False, opened=True)
    begin = start + 7 if 0 <= start < close else 0
    tail = text[close + 8 :]
    if "<think>" in tail:
        return Reasoning(text[begin:], "", closed=False, opened=True)
    return Reasoning(text[begin:close], tail, closed=True, opened=True)


def _simple_close(text: str, brace: int) -> int | None:
    """Where a short group without braces or escapes inside it ends; None when it takes a closer look."""
    close = text.find("}", brace, brace + 100)
    return close if close > 0 and "{" not in (inner := text[brace + 1 : close]) and "\\" not in inner else None


def _closing_braces(text: str, start: int) -> dict[int, int]:
    """From `start` on: every opening brace that is closed -> its partner; `\\{` and `\\}` are no braces."""
    partner: dict[int, int] = {}
    stack: list[int] = []
    for match in _BRACES.finditer(text, start):
        token = match.group()
        if token == "{":
            stack.append(match.start())
        elif token == "}" and stack:
            partner[stack.pop()] = match.start()
    return partner


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Every outermost complete box as (start, end, content), in order."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return []
    partner: dict[int, int] | None = None
    found: list[tuple[int, int, str]] = []
    end = -1
    for match in _BOX.finditer(text):
        if match.start() < end:
            continue
        brace = match.end()
        while brace < len(text) and text[brace].isspace() and brace - match.end() < 20:
            brace += 1
        if brace < len(text) and text[brace] == "{":
            close = _simple_close(text, brace)
            if close is None:
                if partner is None:
                    partner = _closing_braces(text, brace)
                close = partner.get(brace)
            if close is not None:
                found.append((match.start(), close + 1, text[brace + 1 : close]))
                end = close + 1
        elif (bare := _UNBRACED.match(text, match.end())) is not None:
            found.append((match.start(), bare.end(), bare.group(1)))
            end = bare.end()
    return found


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{…}` or `\fbox{…}` with balanced braces; the outer one when nested.

    >>> last_boxed(r"\boxed{113} wait no \boxed{\frac{2}{4}}")
    '\\frac{2}{4}'
    """
    boxes = _boxes(text)
    return boxes[-1][2].strip() if boxes else None


def _answer_blocks(text: str) -> list[tuple[int, int, str, bool]]:
    """`<answer>` blocks as (start, end, content, closed). A block that opens before the former closed ends it."""
    blocks: list[tuple[int, int, str, bool]] = []
    position = text.find("<answer>")
    while position >= 0:
        begin = position + 8
        following = text.find("<answer>", begin)
        close = text.find("</answer>", begin, following if following >= 0 else len(text))
        if close >= 0:
            blocks.append((position, close + 9, text[begin:close], True))
        else:
            end = following if following >= 0 else len(text)
            blocks.append((position, end, text[begin:end], False))
        position = following
    return blocks


def _sentence(line: str) -> str:
    """The answer at the start of a line: markup, a closing full stop and what follows a sentence end are cut."""
    line = line.strip()
    cut = re.search(r"\.(?:\s+[A-Z]|\s*$)|\.\s*</|</answer>", line)
    if cut and cut.start() > 0:
        line = line[: cut.start()]
    if (reason := _REASON.search(line)) is not None and reason.start() > 0:
        line = line[: reason.start()]
    return line.strip().strip("*_`").strip()


def _line_at(text: str, start: int) -> str:
    """The display that begins at `start`, or the rest of the line there."""
    if (display := _DISPLAY.match(text, start)) is not None:
        return str(display[display.lastgroup or 0]).strip()
    end = text.find("\n", start)
    return _sentence(text[start : end if end >= 0 else len(text)])


def _anchored(text: str) -> str | None:
    """The text after the last `####` or 'answer is' on its line (or on the next one when the line ends there)."""
    best: tuple[int, str] | None = None
    for match in _HASHES.finditer(text):
        best = (match.start(), _sentence(match.group(1)))
    last = None
    for match in _ANCHOR.finditer(text):
        last = match
    if last is not None and (best is None or last.start() > best[0]) and (line := _line_at(text, last.end())):
        best = (last.start(), line)
    for match in list(_HEADING.finditer(text))[-2:]:
        start = len(text) - len(text[match.end() :].lstrip())
        line = _line_at(text, start)
        if line and (best is None or match.start() > best[0]) and len(_PROSE.findall(line)) <= 6:
            best = (match.start(), line)
    return best[1] if best and best[1] else None


def _bare(text: str) -> str | None:
    """An answer part that is one short line without a sentence: the line itself."""
    text = text.strip()
    line = text
    if "\n" in text and (marked := _marked_line(text)):
        return marked
    if not line or len(line) > MAX_BARE or "\n" in line or "<answer>" in line:
        return None
    if len(_PROSE.findall(line)) > 6 and "\\" not in line:
        return None
    return _sentence(line) or None


def _marked_line(text: str) -> str | None:
    """The last line where it is nothing but bold or mathematics; a display may fill several lines."""
    tail = text[-2 * MAX_BARE :].rstrip(" .")
    opening = tail.rfind("\\[") if tail.endswith("\\]") else tail.rfind("$$", 0, -2) if tail.endswith("$$") else -1
    begin = opening if opening >= 0 else tail.rfind("\n") + 1
    if tail[:begin].rpartition("\n")[2].strip() or (begin == 0 and len(tail) < len(text.rstrip(" ."))):
        return None
    found = _LAST_LINE.fullmatch(tail[begin:].strip())
    return str(found[found.lastgroup or 0]).strip(" .:") or None if found else None


def find_answer(text: str) -> Found | None:
    """The final answer in a whole completion, with how it was found; None when there is none."""
    return find_in_answer(split_reasoning(text).answer)


def _without_special(text: str) -> str:
    """Without the end-of-turn tokens of a chat template that some engines leave at the end."""
    while (bare := text.rstrip()).endswith(">") and _SPECIAL.fullmatch(bare, start := bare.rfind("<")):
        text = bare[:start]
    return text


def find_in_answer(answer: str) -> Found | None:
    """As `find_answer`, for text whose reasoning is split off already."""
    if "\\boxed" not in answer:
        answer = _without_special(answer)
    boxes = _boxes(answer)
    blocks = _answer_blocks(answer) if "<answer>" in answer else []
    box_end = boxes[-1][1] if boxes else -1
    block_end = blocks[-1][1] if blocks else -1
    if blocks and block_end > box_end:
        _, _, content, closed = blocks[-1]
        boxed = last_boxed(content)
        inner = boxed if boxed is not None else (_anchored(content) or content.strip())
        return Found(inner, "tag", closed or boxed is not None) if inner else None
    if boxes:
        content = boxes[-1][2].strip()
        inner_box = last_boxed(content) if content.startswith(("\\boxed", "\\fbox")) else None
        content = inner_box if inner_box is not None else content
        if content.endswith("\\") and not content.endswith("\\\\"):  # a control space that lost its space
            content = content[:-1].rstrip()
        return Found(content, "box", True) if content else None
    anchored = _anchored(answer)
    if anchored:
        return Found(anchored, "anchor", False)
    bare = _bare(answer)
    return Found(bare, "bare", False) if bare else None


def final_answer(text: str) -> str | None:
    r"""The final answer of a completion: what comes last, box or `<answer>`, after the last `</think>`.

    >>> final_answer(r"<think>\boxed{7}</think><answer>I do not know</answer>")
    'I do not know'
    """
    found = find_answer(text)
    return found.text if found else None
