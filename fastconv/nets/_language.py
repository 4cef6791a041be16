"""The grammar of layer patterns: text to a tree whose every node knows its place in the text.

::

    pattern  = part { "->" part }
    part     = ( element | "[" pattern "]" ) [ "?" ]    "?": may be left out
             | "[" pattern "]" "*" ( number | letter )
    element  = NAME [ "(" argument { "," argument } ")" ]
    argument = number | size "3x3" | letter with a number or size "s2" | word "nobias"
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKENS = re.compile(r"\s*(?:(?P<sign>->|→|[][()*?,])|(?P<word>[A-Za-z0-9_.]+)|(?P<end>$))")
ARGUMENT = re.compile(r"(?P<key>[a-z]?)(?P<value>\d{1,9}((\.\d{1,30})?|(x\d{1,9})+))")
DEEPEST = 50  # brackets inside each other; each takes a few of the calls that Python can nest


class PatternError(ValueError):
    """A pattern that says no net, or one that does not fit the images.

    Attributes
    ----------
    pattern : str
        The whole text.
    position : int
        Index of the character that is wrong, where the message has its caret.
    """

    def __init__(self, message: str, pattern: str, position: int):
        self.reason, self.pattern, self.position = message, pattern, position
        start = pattern.rfind("\n", 0, position) + 1
        line = pattern[start:].split("\n", 1)[0].replace("\t", " ")
        super().__init__(f"{message}\n  {line}\n  {' ' * (position - start)}^")

    def __reduce__(self):
        return type(self), (self.reason, self.pattern, self.position)


@dataclass(frozen=True, slots=True)
class Token:
    """A sign or a word; the last one of every pattern is empty."""

    text: str
    at: int
    is_word: bool

    def __str__(self) -> str:
        return f'"{self.text}"' if self.text else "the end"


@dataclass(frozen=True, slots=True)
class Argument:
    """One of the words in parentheses: "64", "3x3", "s2" and "nobias" have the keys "number",
    "size", "s" and "nobias"."""

    text: str
    at: int
    key: str
    value: tuple[int, ...] | float | bool


@dataclass(frozen=True, slots=True)
class Element:
    """One layer of the pattern."""

    name: str
    at: int
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Parts in brackets, or one part that may be left out."""

    parts: tuple["Element | Group", ...]
    times: Token | None = None
    optional: bool = False


def parse(pattern: str) -> tuple[Element | Group, ...]:
    """Parse a pattern; see the head of this file for the grammar.

    Raises
    ------
    PatternError
        At the first word or sign that does not belong where it is.
    """
    return _Parser(pattern).parse()


def _tokens(pattern: str) -> Iterator[Token]:
    end = 0
    while True:
        match = TOKENS.match(pattern, end)
        if match is None:
            at = end + len(pattern[end:]) - len(pattern[end:].lstrip())
            raise PatternError(
                f'"{pattern[at]}" has no meaning in a pattern; write layers joined by "->", as in '
                "INPUT -> [CONV -> RELU -> POOL]*2 -> FC",
                pattern,
                at,
            )
        kind, end = match.lastgroup, match.end()
        yield Token(match[kind], match.start(kind), kind == "word")
        if kind == "end":
            return


class _Parser:
    """One method for each rule of the grammar; each takes the tokens that are its own."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.tokens = list(_tokens(pattern))
        self.next = self.depth = 0

    @property
    def token(self):
        return self.tokens[self.next]

    def take(self):
        token = self.token
        self.next += 1
        return token

    def take_if(self, *texts):
        return self.take() if self.token.text in texts else None

    def error(self, message, at=None):
        return PatternError(message, self.pattern, self.token.at if at is None else at)

    def parse(self):
        parts = self.sequence()
        if self.token.text == "]":
            raise self.error('"]" closes nothing: there is no "[" before it')
        if self.token.text:
            raise self.error(self.unexpected('"->"'))
        return parts

    def unexpected(self, *expected):
        return f"expected {' or '.join(expected)} here, found {self.token}"

    def sequence(self):
        parts = [self.part()]
        while self.take_if("->", "→"):
            parts.append(self.part())
        return tuple(parts)

    def part(self):
        grouped = self.token.text == "["
        part = self.group() if grouped else self.element()
        if star := self.take_if("*"):
            if not grouped:
                one = f"[{part.name}]*{self.token.text or 2}"
                raise self.error(f"only brackets repeat: write {one}", star.at)
            return Group(part, times=self.times())
        optional = self.take_if("?") is not None
        return Group(part if grouped else (part,), None, optional) if grouped or optional else part

    def times(self):
        text = self.token.text
        if not (text.isdecimal() or (len(text) == 1 and text.isalpha())):
            raise self.error(self.unexpected('a number, or a letter such as "N", behind "*"'))
        return self.take()

    def group(self):
        opening = self.take()
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} brackets inside each other", opening.at)
        if self.token.text == "]":
            raise self.error("these brackets are empty: put layers in them, or leave them out")
        parts = self.sequence()
        if not self.token.text:
            raise self.error('this "[" is never closed: add a "]"', opening.at)
        if not self.take_if("]"):
            raise self.error(self.unexpected('"->"', '"]"'))
        self.depth -= 1
        return parts

    def element(self):
        if not self.token.is_word:
            raise self.error(self.unexpected("a layer such as CONV", '"["'))
        name = self.take()
        opening = self.take_if("(")
        arguments = self.arguments(opening) if opening else ()
        return Element(name.text, name.at, arguments)

    def arguments(self, opening):
        arguments = [self.argument()]
        while self.take_if(","):
            arguments.append(self.argument())
        if not self.token.text:
            raise self.error('this "(" is never closed: add a ")"', opening.at)
        if not self.take_if(")"):
            raise self.error(self.unexpected('","', '")"'))
        return tuple(arguments)

    def argument(self):
        if not self.token.is_word:
            raise self.error(self.unexpected("an argument such as 64, 3x3 or s1"))
        token = self.take()
        match = ARGUMENT.fullmatch(token.text)
        if match is None:
            return Argument(token.text, token.at, token.text, True)
        value = match["value"]
        if "x" not in value:
            return Argument(token.text, token.at, match["key"] or "number", float(value))
        sizes = tuple(int(size) for size in value.split("x"))
        return Argument(token.text, token.at, match["key"] or "size", sizes)
