r"""Tokens to expression trees: arithmetic, powers, roots, functions. A Pratt parser with a depth limit; no evaluation.

A tree is a tuple: ("num", Fraction), ("sym", name), ("add", a, b), ("mul", a, b), ("div", a, b), ("neg", a),
("pow", a, b), ("root", a, n), ("fn", name, a…), ("pm", a, b) for `a \pm b`. Lists, intervals, relations and units are
the business of `openr1.verify.structure`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from openr1.verify.lexer import NotMath, Token, TooLarge, Unsupported

Tree = tuple[Any, ...]
MAX_DEPTH = 60


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


GREEK = names(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar"
)
FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "arcsin": "asin",
    "arccos": "acos", "arctan": "atan", "asin": "asin", "acos": "acos", "atan": "atan", "arccot": "acot",
    "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "ln": "ln", "log": "log", "lg": "log", "exp": "exp",
    "sqrt": "sqrt", "cbrt": "cbrt", "abs": "abs", "floor": "floor", "ceil": "ceil", "gcd": "gcd", "lcm": "lcm",
    "max": "max", "min": "min", "binom": "binom", "sgn": "sgn",
}  # fmt: skip
_INVERSE = {"sin": "asin", "cos": "acos", "tan": "atan", "cot": "acot"}
_ENGINE = names(
    r"\int \iint \oint \sum \prod \lim \limsup \liminf \partial \nabla \det \bigcup \bigcap \sup \inf \forall"
    r" \exists \Re \Im \arg \ker \dim"
)
_DECORATIONS = names(
    r"\overline \bar \vec \hat \tilde \widehat \widetilde \overrightarrow \overleftrightarrow \dot \ddot"
    r" \underline \overarc \overset"
)
_CLOSE = {
    "(": ")",
    "[": "]",
    "{": "}",
    "\\{": "\\}",
    "\\lbrace": "\\rbrace",
    "\\lfloor": "\\rfloor",
    "\\lceil": "\\rceil",
}
_TIMES = frozenset({"*", "\\times", "\\cdot", "\\ast", "\\bullet"})
_DIVIDE = frozenset({"/", "\\div"})


def num(value: int | Fraction) -> Tree:
    return ("num", Fraction(value))


class Parser:
    """One expression; raises NotMath (or TooLarge, Unsupported) where the tokens are none."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0

    def parse(self) -> Tree:
        if not self.tokens:
            raise NotMath("nothing there")
        tree = self.sum()
        if self.at < len(self.tokens):
            raise NotMath(f"unexpected {self.tokens[self.at].text[:20]!r}")
        return tree

    def peek(self, ahead: int = 0) -> str:
        index = self.at + ahead
        if index >= len(self.tokens):
            return ""
        token = self.tokens[index]
        return token.text if token.kind in ("op", "cmd") else ""

    def token(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            raise NotMath(f"{expected!r} is missing")
        self.at += 1

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge("nested too deeply")
        tree = self.product()
        while (op := self.peek()) in ("+", "-", "\\pm", "\\mp"):
            self.at += 1
            right = self.product()
            if op == "+":
                tree = ("add", tree, right)
            elif op == "-":
                tree = ("add", tree, ("neg", right))
            else:
                plus, minus = ("add", tree, right), ("add", tree, ("neg", right))
                tree = ("pm", plus, minus) if op == "\\pm" else ("pm", minus, plus)
        self.depth -= 1
        return tree

    def product(self) -> Tree:
        sign = self.peek()
        if sign in ("+", "-", "\\pm", "\\mp"):
            self.at += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise TooLarge("nested too deeply")
            inner = self.product()
            self.depth -= 1
            if sign == "+":
                return inner
            if sign == "-":
                return ("neg", inner)
            return ("pm", inner, ("neg", inner)) if sign == "\\pm" else ("pm", ("neg", inner), inner)
        tree = self.power()
        while True:
            op = self.peek()
            if op in _TIMES:
                self.at += 1
                tree = ("mul", tree, self.signed())
            elif op in _DIVIDE:
                self.at += 1
                tree = ("div", tree, self.signed())
            elif self.starts_factor():
                tree = self.juxtapose(tree)
            else:
                return tree

    def signed(self) -> Tree:
        if self.peek() in ("-", "+"):
            negative = self.peek() == "-"
            self.at += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise TooLarge("nested too deeply")
            inner = self.signed()
            self.depth -= 1
            return ("neg", inner) if negative else inner
        return self.power()

    def juxtapose(self, left: Tree) -> Tree:
        r"""Implicit product; `1\frac{1}{2}` is a mixed number, and two numerals in a row are no product."""
        token = self.token()
        start = self.at
        plain_number = self.at > 0 and self.tokens[self.at - 1].kind == "num"
        right = self.power()
        if plain_number and left[0] == "num" and token is not None:
            if token.kind == "num":
                raise NotMath("two numbers in a row")
            whole_fraction = (
                token.text in ("\\frac", "{") and right[0] == "div" and right[1][0] == right[2][0] == "num"
            )
            if whole_fraction:
                top, bottom = right[1][1], right[2][1]
                integers = left[1].denominator == top.denominator == bottom.denominator == 1
                proper = 0 < top < bottom
                if integers and proper and left[1] > 0 and "." not in self.tokens[start - 1].text:
                    return num(left[1] + top / bottom)
                raise Unsupported("a number beside an improper fraction")
        return ("mul", left, right)

    def starts_factor(self) -> bool:
        token = self.token()
        if token is None or token.kind == "text":
            return False
        if token.kind in ("num", "word"):
            return True
        text = token.text
        if text == "|":
            return self.bars == 0
        if text in (
            "(",
            "[",
            "{",
            "\\{",
            "\\lfloor",
            "\\lceil",
            "\\lvert",
            "\\frac",
            "\\sqrt",
            "\\binom",
            "\\infty",
            "\\pi",
        ):
            return True
        name = text[1:]
        return token.kind == "cmd" and (name in GREEK or name in FUNCTIONS or text in _DECORATIONS or text in _ENGINE)

    def power(self) -> Tree:
        tree = self.postfix(self.atom())
        if self.peek() == "^":
            self.at += 1
            if self.peek() in ("\\circ", "\\degree") or (
                self.peek() == "{" and self.peek(1) in ("\\circ", "\\degree")
            ):
                self.at += 1 if self.peek() != "{" else 3
                return self.postfix(("mul", tree, ("div", ("sym", "\\pi"), num(180))))
            if self.peek() in ("\\prime", "'"):
                raise Unsupported("a derivative")
            tree = self.postfix(("pow", tree, self.script()))
        elif self.peek() == "_":
            raise NotMath("a subscript on something that has none")
        return tree

    def postfix(self, tree: Tree) -> Tree:
        while self.peek() in ("!", "\\%", "%"):
            op = self.peek()
            self.at += 1
            if op == "!":
                double = self.peek() == "!"
                self.at += double
                tree = ("fn", "factorial2" if double else "factorial", tree)
            else:
                tree = ("div", tree, num(100))
        return tree

    def script(self) -> Tree:
        """An exponent: a group, a signed number, or one factor."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge("nested too deeply")
        if self.peek() == "{":
            tree = self.group("{")
        elif self.peek() in ("-", "+"):
            negative = self.peek() == "-"
            self.at += 1
            inner = self.script()
            tree = ("neg", inner) if negative else inner
        else:
            tree = self.atom()
            if self.peek() == "!":
                tree = self.postfix(tree)
            if self.peek() == "^":  # 2^3^4 is 2^(3^4)
                self.at += 1
                tree = ("pow", tree, self.script())
        self.depth -= 1
        return tree

    def group(self, opening: str) -> Tree:
        self.take(opening)
        bars, self.bars = self.bars, 0
        tree = self.sum()
        self.bars = bars
        self.take(_CLOSE[opening])
        return tree

    def argument(self) -> Tree:
        r"""A LaTeX argument: a group or one character, so that `\frac12` is a half."""
        if self.peek() == "{":
            return self.group("{")
        token = self.token()
        if token is not None and token.kind == "num" and token.text.isdigit() and len(token.text) > 1:
            first, rest = token.text[0], token.text[1:]
            self.tokens[self.at : self.at + 1] = [
                Token("num", first, token.spaced, Fraction(int(first))),
                Token("num", rest, False, Fraction(int(rest))),
            ]
        if token is not None and token.kind == "word" and len(token.text) > 1:
            self.tokens[self.at : self.at + 1] = [Token("word", token.text[0]), Token("word", token.text[1:])]
        return self.atom()

    def atom(self) -> Tree:
        token = self.token()
        if token is None:
            raise NotMath("unexpected end")
        if token.kind == "num":
            self.at += 1
            assert token.value is not None
            if self.peek() == "_":
                return self.in_base(token)
            return ("num", token.value)
        if token.kind == "word":
            return self.word(token)
        if token.kind == "text":
            raise NotMath(f"the word {token.text[:20]!r}")
        return self.command(token.text)

    def in_base(self, token: Token) -> Tree:
        """A numeral with its base as subscript: its value."""
        self.at += 1
        base_tree = self.group("{") if self.peek() == "{" else self.atom()
        if base_tree[0] != "num" or base_tree[1].denominator != 1 or not 2 <= base_tree[1] <= 36:
            raise NotMath("a subscript on a number")
        try:
            return num(int(token.text, int(base_tree[1])))
        except ValueError as error:
            raise NotMath("no numeral in that base") from error

    def word(self, token: Token) -> Tree:
        text = token.text
        if text in FUNCTIONS:
            self.at += 1
            return self.function(FUNCTIONS[text])
        if text.lower() in ("pi",):
            self.at += 1
            return ("sym", "\\pi")
        if text in ("infinity", "Infinity", "inf", "oo"):
            self.at += 1
            return ("sym", "\\infty")
        if text in GREEK and len(text) > 2:
            self.at += 1
            return self.symbol("\\" + text)
        if len(text) > 1:
            for name in ("sqrt", "sin", "cos", "tan", "log", "ln", "pi"):
                cut = text.find(name)
                if 0 <= cut < 4 and (cut > 0 or len(text) > len(name)) and len(text) <= len(name) + 4:
                    pieces = [p for p in (text[:cut], name, text[cut + len(name) :]) if p]
                    self.tokens[self.at : self.at + 1] = [Token("word", p, token.spaced) for p in pieces]
                    return self.atom()
            if len(text) > 4:
                raise NotMath(f"the word {text[:20]!r}")
            self.tokens[self.at : self.at + 1] = [Token("word", c, token.spaced and not i) for i, c in enumerate(text)]
        self.at += 1
        return self.symbol(text[0])

    def symbol(self, name: str) -> Tree:
        """A variable with its subscript and primes; `e` and `i` alone are the constants."""
        if self.peek() == "_":
            self.at += 1
            name += "_" + self.subscript()
        while self.peek() == "'":
            self.at += 1
            name += "'"
        return ("sym", name)

    def subscript(self) -> str:
        if self.peek() != "{":
            token = self.token()
            if token is None:
                raise NotMath("an empty subscript")
            self.at += 1
            return token.text
        depth = 0
        parts: list[str] = []
        while (token := self.token()) is not None:
            self.at += 1
            depth += (token.text == "{") - (token.text == "}")
            if depth == 0:
                return "".join(parts)
            if token.text not in "{}":
                parts.append(token.text)
        raise NotMath("a brace is not closed")

    def command(self, text: str) -> Tree:
        if text in ("(", "[", "{", "\\{", "\\lbrace"):
            return self.group(text)
        if text in ("|", "\\lvert", "\\vert"):
            return self.absolute(text)
        if text in ("\\lfloor", "\\lceil"):
            return ("fn", "floor" if text == "\\lfloor" else "ceil", self.group(text))
        self.at += 1
        if text == "\\frac":
            top = self.argument()
            bottom = self.argument()
            if top in (("sym", "d"), ("sym", "\\partial")) and bottom[0] == "mul" and bottom[1] == ("sym", "d"):
                raise Unsupported("a derivative")
            return ("div", top, bottom)
        if text == "\\binom":
            top = self.argument()
            return ("fn", "binom", top, self.argument())
        if text == "\\sqrt":
            return self.root()
        if text in ("\\pi", "\\infty"):
            return ("sym", text)
        if text in ("\\imath", "\\mathrm{i}"):
            return ("sym", "i")
        name = text[1:]
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name])
        if name in GREEK:
            return self.symbol(text)
        if text in _DECORATIONS:
            return ("sym", f"{text}({self.subscript()})")
        if text.startswith(("\\mathbb{", "\\mathcal{", "\\mathscr{", "\\mathfrak{")):
            return self.symbol(text)
        if text in _ENGINE:
            raise Unsupported(text)
        raise NotMath(f"unexpected {text[:20]!r}")

    def absolute(self, text: str) -> Tree:
        self.at += 1
        closing = "\\rvert" if text == "\\lvert" else text
        self.bars += text != "\\lvert"
        tree = self.sum()
        self.bars -= text != "\\lvert"
        self.take(closing)
        return ("fn", "abs", tree)

    def root(self) -> Tree:
        degree: Tree = num(2)
        if self.peek() == "[":
            degree = self.group("[")
        if self.peek() == "{":
            return ("root", self.group("{"), degree)
        return ("root", self.atom(), degree)

    def function(self, name: str) -> Tree:
        r"""A function with its exponent (`\sin^2 x`), base (`\log_2`) and argument (`\sin 2x` takes 2x)."""
        exponent: Tree | None = None
        base: Tree | None = None
        for _ in range(2):
            if self.peek() == "^" and exponent is None:
                self.at += 1
                exponent = self.script()
            elif self.peek() == "_" and base is None:
                self.at += 1
                base = self.argument()
        if base is not None and name != "log":
            raise Unsupported(f"{name} with a subscript")
        if exponent == ("neg", num(1)) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        arguments = self.arguments(name)
        if name == "log" and base is not None:
            tree: Tree = ("div", ("fn", "ln", *arguments), ("fn", "ln", base))
        elif name == "log":
            tree = ("div", ("fn", "ln", *arguments), ("fn", "ln", num(10)))
        elif name == "sqrt":
            tree = ("root", arguments[0], num(2))
        elif name == "cbrt":
            tree = ("root", arguments[0], num(3))
        elif name == "exp":
            tree = ("pow", ("sym", "e"), arguments[0])
        else:
            tree = ("fn", name, *arguments)
        return tree if exponent is None else ("pow", tree, exponent)

    def arguments(self, name: str) -> list[Tree]:
        if self.peek() == "{" and name not in ("gcd", "lcm", "max", "min"):
            return [self.group("{")]
        if self.peek() in ("(", "[") or (self.peek() == "{" or self.peek() == "\\{"):
            opening = self.peek()
            self.at += 1
            found = [self.sum()]
            while self.peek() == ",":
                self.at += 1
                found.append(self.sum())
            self.take(_CLOSE[opening])
            if len(found) > 1 and name not in ("gcd", "lcm", "max", "min", "binom"):
                raise NotMath(f"{name} of several arguments")
            return found
        if self.peek() in ("-", "+"):
            return [self.signed()]
        tree = self.power()
        while self.starts_factor() and not self.next_is_function() and self.peek() not in ("(", "["):
            tree = ("mul", tree, self.power())
        return [tree]

    def next_is_function(self) -> bool:
        token = self.token()
        return token is not None and (token.text.lstrip("\\") in FUNCTIONS)


def parse(tokens: list[Token]) -> Tree:
    """The tree of an expression; the tokens are not changed."""
    return Parser(list(tokens)).parse()


def symbols(tree: Tree) -> set[str]:
    """The free variables; π, e, i and ∞ are none."""
    found: set[str] = set()
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            if node[0] == "sym":
                if node[1] not in ("\\pi", "e", "i", "\\infty"):
                    found.add(node[1])
            else:
                stack.extend(child for child in node[1:] if isinstance(child, tuple))
    return found


def contains(tree: Tree, kind: str, name: str | None = None) -> bool:
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            if node[0] == kind and (name is None or node[1] == name):
                return True
            stack.extend(child for child in node[1:] if isinstance(child, tuple))
    return False
