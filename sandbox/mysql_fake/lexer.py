"""MySQL's words: string literals with their two ways of escaping, quoted identifiers, numbers, comments.

Source: MySQL 8.4 Reference Manual, "String Literals", "Schema Object Names", "Comments", "Server SQL Modes".
"""

import re
from enum import Enum, auto
from typing import NamedTuple

from sandbox.mysql_fake.errors import SYNTAX, MySqlError

_NEAR_LENGTH = 80

_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}

_PATTERN = re.compile(
    r"""
      (?P<space>    \s+ | \#[^\n]* | --(?=\s|$)[^\n]* | /\*(?!!).*?\*/ )
    | (?P<hex>      0x(?:[0-9A-Fa-f]{2})+\b | [xX]'(?:[0-9A-Fa-f]{2})*' )
    | (?P<number>   \d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b )
    | (?P<variable> @@[A-Za-z_][\w.]* )
    | (?P<word>     [A-Za-z_$\u0080-\uffff][\w$]* )
    | (?P<symbol>   [(),.;=@*-] )
    """,
    re.VERBOSE | re.DOTALL,
)


class Kind(Enum):
    """What sort of word a token is."""

    WORD = auto()
    NAME = auto()
    """An identifier in quotes: never a keyword."""
    STRING = auto()
    NUMBER = auto()
    HEX = auto()
    VARIABLE = auto()
    SYMBOL = auto()
    END = auto()


class Token(NamedTuple):
    """A word of a statement; `value` without quotes and escapes, the place as it stands in the text."""

    kind: Kind
    value: str
    start: int
    end: int


def tokens(text: str, *, backslash_escapes: bool = True, ansi_quotes: bool = False) -> list[Token]:
    """Splits a statement.

    Args:
        text: The statement.
        backslash_escapes: False in SQL mode NO_BACKSLASH_ESCAPES.
        ansi_quotes: True in SQL mode ANSI_QUOTES, where `"` quotes identifiers.

    Raises:
        MySqlError: 1064 for what is no word, such as an open string.
    """
    found = []
    position = 0
    while position < len(text):
        start, quote = position, text[position]
        if quote in "'\"`":
            is_name = quote == "`" or (quote == '"' and ansi_quotes)
            value, position = _quoted(text, start, escapes=backslash_escapes and not is_name)
            found.append(Token(Kind.NAME if is_name else Kind.STRING, value, start, position))
            continue
        match = _PATTERN.match(text, position)
        if match is None:
            raise syntax_error(text, position)
        position = match.end()
        if match.lastgroup != "space":
            found.append(Token(Kind[str(match.lastgroup).upper()], match.group(), start, position))
    found.append(Token(Kind.END, "", position, position))
    return found


def syntax_error(text: str, position: int) -> MySqlError:
    """Error 1064. As MySQL does, it quotes the statement from there on, secrets and all."""
    line = text.count("\n", 0, position) + 1
    return MySqlError(SYNTAX, text[position : position + _NEAR_LENGTH], line)


def _quoted(text: str, start: int, *, escapes: bool) -> tuple[str, int]:
    """What stands between quotes, and where the closing quote ends."""
    quote = text[start]
    value: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        if character == quote and following != quote:
            return "".join(value), position + 1
        if character == quote:
            value.append(quote)
            position += 2
        elif character == "\\" and escapes and following:
            value.append(_ESCAPES.get(following, following))
            position += 2
        else:
            value.append(character)
            position += 1
    raise syntax_error(text, start)
