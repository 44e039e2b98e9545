"""Decontamination: planted copies of every kind are found, clean rows and other problems of a template are not."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

import pytest
from clean_rows import clean_rows

from openr1.curate.decontaminate import DecontaminationIndex
from openr1.curate.ngrams import ngrams, token_blocks
from openr1.curate.normalise import normalise, units
from openr1.paths import data_dir

CHAMP = [
    (row["id"], row["problem"])
    for row in map(json.loads, (data_dir("eval") / "data" / "champ.jsonl").read_text().splitlines())
]
LATEX = [
    r"Let $f(x)=\frac{x^2+3}{2x-1}$. Compute $f\left(\frac{1}{2}+\sqrt{5}\right)$ and write it in lowest terms.",
    r"A cylinder has radius $\text{12 cm}$ and height $1,250$ mm. What is the ratio of its volume to $3\pi$?",
    r"Find all pairs $(a, b)$ with $a\leq b$ and $a\cdot b = 3600$ such that $\gcd(a,b)\geq 4$ and $a\neq 20$.",
    r"The polynomial $p(x)=x^{3}-6x^{2}+11x-6$ has the roots $r$, $s$ and $t$. Evaluate $r^{2}+s^{2}+t^{2}$ exactly.",
    r"How many integers $n$ satisfy $\left|2n-7\right| < 10{,}000$ and leave remainder $3$ modulo $\dfrac{28}{4}$?",
    "Emil has 7 marbles and gets 3 more from his aunt every Sunday. How many marbles does Emil own after 12 weeks?",
]
SHORT = [
    r"Compute $\tan 60^\circ$.", "What is 17 + 26?", r"Evaluate $\log_2 64$.", "Factor x^2-9.", "Simplify 3/12.",
    r"Find $\sqrt{1764}$.", "Solve 3x + 5 = 20.", r"What is $\binom{8}{3}$?",
]  # fmt: skip
PROBLEMS = CHAMP + [(f"latex-{i}", text) for i, text in enumerate(LATEX)]
FILLER = "My teacher wrote this on the board yesterday, and nobody in the room had an idea.", "Thanks for any help!"


@pytest.fixture(scope="module")
def index() -> DecontaminationIndex:
    return DecontaminationIndex.build({"made_up": [*PROBLEMS, *((f"short-{i}", t) for i, t in enumerate(SHORT))]})


# ----------------------------------------------------------------------------------------------- ways to copy a text
def _whitespace(text: str, rng: random.Random) -> str:
    return "  " + re.sub(" ", lambda _: rng.choice([" ", "  ", "\n", "\t", " \u00a0"]), text) + "\n"


def _operator_spaces(text: str, rng: random.Random) -> str:
    if re.search(r" *[+=] *", text):
        return re.sub(r" *([+=]) *", lambda m: m[1] if rng.random() < 0.5 else f" {m[1]} ", text)
    return text.replace(",", ", ")


def _case(text: str, rng: random.Random) -> str:
    # not inside LaTeX commands, whose case means something
    return re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda m: m[0] if m[0][0] == "\\" else m[0].upper(), text)


def _commas(text: str, rng: random.Random) -> str:
    return re.sub(r"(?<=[a-z]{3}) (?=[a-z]{3})", lambda _: rng.choice([" ", ", ", "; ", " - "]), text)


def _without_punctuation(text: str, rng: random.Random) -> str:
    return re.sub(r"[.,;:!?'\"]+(?=\s|$)", "", text)


def _without_signs(text: str, rng: random.Random) -> str:
    return re.sub(r"[^\w\s]", "", text)


def _quotes(text: str, rng: random.Random) -> str:
    return f"“{text.replace('-', '−').replace(chr(39), '’')}” …"


def _latex(text: str, rng: random.Random) -> str:
    for old, new in (
        (r"\$([^$]*)\$", r"\\(\1\\)"), (r"\\frac", r"\\dfrac"), (r"\\dfrac\{28\}\{4\}", r"\\tfrac{28}4"),
        (r"\\left|\\right", ""), (r"\\cdot", r"\\times"), (r"\\leq", r"\\le"), (r"≤", r" \\leqslant "),
        (r"≥", r"\\geq "),
        (r"\{,\}", ","), (r"(?<=\d),(?=\d{3}\b)", "{,}"), (r"\^\{(\w)\}", r"^\1"), (r"\^(\d)(?!\d)", r"^{\1}"),
        (r"\\text\{([^}]*)\}", r"\\mathrm{\1}"), (r"sqrt\((\w+)\)", r"\\sqrt{\1}"), ("=", r"\\,=\\,"),
        (r"_(\d+)", r"_{\1}"),
    ):  # fmt: skip
        text = re.sub(old, new, text)
    return text


def _framed(text: str, rng: random.Random) -> str:
    return f"{FILLER[0]} {text} {FILLER[1]}"


def _instructed(text: str, rng: random.Random) -> str:
    return f"Solve the following problem:\n{text}\nPut your final answer within \\boxed{{}}."


WAYS: dict[str, Callable[[str, random.Random], str]] = {
    "exact": lambda text, rng: text, "whitespace": _whitespace, "operator spaces": _operator_spaces, "case": _case,
    "commas": _commas, "no punctuation": _without_punctuation, "quotes": _quotes, "latex": _latex, "framed": _framed,
    "instructed": _instructed, "no signs": _without_signs,
    "latex, case, whitespace": lambda text, rng: _whitespace(_case(_latex(text, rng), rng), rng),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_copies_of_whole_problems_are_found(index: DecontaminationIndex, way: str) -> None:
    rng = random.Random(way)
    if way == "no signs":  # then ∞ and √ are gone, and what is short says nothing any more
        texts = [text for _, text in PROBLEMS if text.isascii() and sum(map(str.isalnum, text)) >= 40]
    else:
        texts = [text for _, text in PROBLEMS]
    copies = [WAYS[way](text, rng) for text in texts]
    missed = [copy for copy, hit in zip(copies, index.check(copies), strict=True) if hit is None]
    assert len(copies) >= 100
    assert not missed, missed[:5]


@pytest.mark.parametrize("way", [w for w in WAYS if w not in ("no signs", "framed", "commas")])
def test_copies_of_problems_under_eight_words_are_found(index: DecontaminationIndex, way: str) -> None:
    rng = random.Random(way)
    copies = [WAYS[way](text, rng) for text in SHORT]
    hits = index.check(copies)
    assert [hit and hit.problem for hit in hits] == [f"short-{i}" for i in range(len(SHORT))]


def test_a_short_problem_is_found_as_a_sentence_and_not_as_part_of_one(index: DecontaminationIndex) -> None:
    found, other, longer = index.check(
        [
            "Here is one for you. What is 17+26? Be quick.",
            "What is 17 + 26 + 31 in the number system of base nine?",
            "Tell me: what is 17 + 27?",
        ]
    )
    assert found is not None and found.how == "whole"
    assert other is None and longer is None


def _parts(text: str, rng: random.Random) -> tuple[str, str]:
    """Half of a problem's words in other text, and a row that is that part alone."""
    words = text.split()
    size = max(len(words) * 2 // 3, 12)
    begin = rng.randrange(len(words) - size + 1)
    part = " ".join(words[begin : begin + size])
    return f"{FILLER[0]} {part} {FILLER[1]}", part


def test_parts_of_problems_are_found(index: DecontaminationIndex) -> None:
    rng = random.Random(0)
    wordy = [text for _, text in PROBLEMS if len(text.split()) >= 16]
    embedded, alone = zip(*(_parts(text, rng) for text in wordy), strict=True)
    for rows in (embedded, alone):
        missed = [row for row, hit in zip(rows, index.check(rows), strict=True) if hit is None]
        assert not missed, missed
    assert len(wordy) >= 60


def test_a_sentence_of_a_problem_in_a_longer_row_is_found(index: DecontaminationIndex) -> None:
    sentences = {
        s for _, t in PROBLEMS for s in re.split(r"(?<=[.?])\s+", t) if sum(map(len, re.findall(r"[a-z]{4,}", s))) > 45
    }
    rows = [f"{FILLER[0]} {sentence} {FILLER[1]}" for sentence in sorted(sentences)]
    missed = [row for row, hit in zip(rows, index.check(rows), strict=True) if hit is None]
    assert len(rows) >= 40
    assert not missed, missed


def test_traps_24() -> None:
    """x+y / x + y, added commas, LaTeX variants, and every problem under 8 words."""
    index = DecontaminationIndex.build({"b": [r"Find $x+y$ if $\frac{x}{2}=\frac{y}{3}=7$", "Solve x+y=3"]})
    rows = [r"find, $x + y$, if $\dfrac x2 = \dfrac{y}{3} = 7$.", "Solve  x + y = 3 ."]
    assert [hit and hit.problem for hit in index.check(rows)] == ["0", "1"]


# --------------------------------------------------------------------------------------------- what is not a copy
def test_the_same_template_with_other_numbers_is_not_a_copy(index: DecontaminationIndex) -> None:
    rng = random.Random(1)
    changed = []
    for name, text in PROBLEMS:
        numbers = list(re.finditer(r"(?<![\d.,_])\d+(?![\d.,])", text))
        if numbers:
            one = rng.choice(numbers)
            changed.append((name, text[: one.start()] + str(int(one[0]) + rng.randint(3, 9)) + text[one.end() :]))
    hits = index.check([row for _, row in changed])
    found = [row for (name, row), hit in zip(changed, hits, strict=True) if hit is not None and hit.problem == name]
    assert len(changed) > 100
    assert not found, found


def test_the_same_numbers_with_another_operator_are_not_a_copy(index: DecontaminationIndex) -> None:
    rows = [
        LATEX[3].replace("-6x", "+6x"), "What is 17 - 26?", "Factor x^2+9.",
    ]  # fmt: skip
    assert index.check(rows) == [None] * 3


def test_boilerplate_is_not_evidence() -> None:
    """Phrases that many problems share, or that are made of common words only, flag nothing."""
    phrase = "Let a, b and c be positive real numbers such that"
    frame = "Answer the following multiple choice question with one letter and explain briefly why it is right:"
    problems = [f"{frame} {phrase} a+b+c={i} and {word}." for i, word in enumerate(["abc is largest"] * 50)]
    index = DecontaminationIndex.build({"b": [*problems, f"{phrase} ab+bc+ca = 1. Prove that a zebra gallops."]})
    rows = [f"{phrase} abc = 8. Find the minimum of a + 2b + 3c.", f"{frame} which planet has the most moons?"]
    assert index.check(rows) == [None, None]
    assert index.check([problems[7], problems[8]])[0] is not None


def test_clean_rows_are_kept(index: DecontaminationIndex) -> None:
    rows = clean_rows(10_000, seed=3)
    assert sum(hit is not None for hit in index.check(rows)) == 0


@pytest.mark.slow
def test_under_a_hundredth_of_a_percent_of_clean_rows_is_dropped(index: DecontaminationIndex) -> None:
    rows = clean_rows(100_000, seed=2)
    dropped = [row for row, hit in zip(rows, index.check(rows), strict=True) if hit is not None]
    assert len(dropped) < 10, dropped


# ------------------------------------------------------------------------------------------------- what a hit says
def test_a_hit_names_the_problem_and_how_it_was_found(index: DecontaminationIndex) -> None:
    name, text = CHAMP[0]
    whole, framed, clean = index.check([text, f"{FILLER[0]} {text}", "Nothing like it."])
    assert whole is not None and framed is not None and clean is None
    assert (whole.benchmark, whole.problem, whole.how, whole.coverage) == ("made_up", name, "exact", 1.0)
    assert framed.how == "whole" and framed.coverage == 1.0 and framed.text == text
    assert "strings of length 6" in whole.excerpt


def test_a_row_of_two_benchmarks_counts_for_both() -> None:
    text = CHAMP[3][1]
    [hit] = DecontaminationIndex.build({"one": [text], "two": [text.upper()]}).check([text])
    assert hit is not None and sorted(hit.benchmarks) == ["one", "two"]


def test_what_is_found_does_not_depend_on_the_other_rows(index: DecontaminationIndex) -> None:
    rows = (
        clean_rows(300, seed=5)
        + [text for _, text in PROBLEMS]
        + ["", " ", "\x01", "no\x01separator", "\ud800", "é" * 5]
    )
    random.Random(2).shuffle(rows)
    assert index.check(rows) == [index.check([row])[0] for row in rows]


def test_chinese_and_accented_texts() -> None:
    zh = "小明的农场有3只鸡和8只鸭,每只鸡每天下2个蛋,每只鸭每天下1个蛋。他一周可以卖出多少个蛋?"
    es = "Los patos de Janet ponen 16 huevos por día. Ella come tres cada mañana y vende el resto en el mercado."
    index = DecontaminationIndex.build({"zh": [zh], "es": [es]})
    rows = [
        zh.replace(",", "，").replace("3", " ３ "), es.upper(), es.replace("í", "i\u0301"),
        "小红的果园有3棵苹果树和8棵梨树，每棵苹果树每天掉2个苹果。她一周可以卖出多少个苹果？", zh.replace("8", "9"),
    ]  # fmt: skip
    assert [hit and hit.benchmark for hit in index.check(rows)] == ["zh", "es", "es", None, None]


def test_an_empty_index_finds_nothing() -> None:
    assert DecontaminationIndex.build({}).check(["a b c d e f g h i", ""]) == [None, None]
    assert DecontaminationIndex.build({"b": ["", "?"]}).check(["", "?", "x"]) == [None, None, None]


# ------------------------------------------------------------------------------------------------- normalisation
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x+y", "x + y"), (r"\frac12", r"\dfrac{1}{2}"), (r"\frac{a}{b}", "a/b"), ("1,000", "1000"),
        (r"1{,}000", "1000"),
        (r"1\,000", "1,000"), ("(100,200)", "(100, 200)"), (r"$x \cdot y$", r"\(x\times y\)"), ("x≤3", r"x \leq 3"),
        ("π r²", r"\pi r^2"), (r"\text{cm}", "cm"), ("don't", "don’t"), ("non-negative", "non negative"),
        ("ﬁnd", "Find"),
        (r"\left( x \right)", "(x)"), ("α", r"\alpha"), (r"x^{10}", "x^10"), (r"10\%", "10%"), ("１２", "12"),
        (r"60^\circ", "60°"), (r"\sqrt{2}", "√2"), ("a−b", "a-b"), ("A—B", "a - b"),
    ],
)  # fmt: skip
def test_ways_to_write_the_same(one: str, other: str) -> None:
    words = units(one), units(other)
    assert words[0].words == words[1].words
    assert all(not a.isdisjoint(b) for a, b in zip(words[0].numbers, words[1].numbers, strict=True) if a or b)
    tokens = [block.tokens.tolist() for text in (one, other) for block in token_blocks([text])]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(
    ("one", "other"), [("2x+3y", "2x-3y"), ("sort 1 23", "sort 12 3"), ("x=3", "x=4"), ("x<3", "x>3"), ("3.5", "35")]
)
def test_what_is_not_the_same(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_ngrams_are_hashes_of_runs() -> None:
    [block] = token_blocks(["a b c d e f g h i", "b c d e f g h i j"])
    for n in range(1, 10):
        grams = ngrams(block.tokens, n)
        assert len(grams) == 18 - n + 1
        assert set(grams[1 : 10 - n].tolist()) <= set(grams[9:].tolist())
        assert len(set(grams.tolist())) > 18 - n - (9 - n)
