"""What one value may be: how each kind is checked, read from text, and loaded.

A kind is a frozen value without state. It gives JSON scalars only, and what `check` gives, `check` takes again
unchanged. A value that does not fit raises `Unfit`, which says what was wanted and never the value: only the
parameter knows whether the value may be shown.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str
Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

#: The integers a parameter takes: signed, 64 bits.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
#: No run of more digits than this is within 64 bits; longer ones are never given to `int`, which refuses past 4300.
INTEGER_DIGITS_MAX = 19

_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_YES_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


class Unfit(ValueError):
    """A value does not fit; the text says what it must be ("an integer"), not what it was."""


@dataclass(frozen=True)
class Kind(ABC):
    """What a value may be.

    `name` is what people are shown ("integer"); `placeholder` stands for a value in a usage line ("INTEGER").
    """

    name: str
    placeholder: str

    @abstractmethod
    def check(self, value: object) -> Scalar:
        """Give the JSON scalar for a Python or JSON value.

        Raises:
            Unfit: the value is of another type or out of range.
        """

    def parse(self, text: str) -> Scalar:
        """Give the JSON scalar that a word of the command line stands for; raises `Unfit` as `check` does."""
        return self.check(text)

    def load(self, value: Scalar) -> object:
        """Turn what `check` gave into what the function is annotated with."""
        return value


class Text(Kind):
    """One line of UTF-8 text."""

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise Unfit("text")
        return one_line(value)


class PathText(Kind):
    """A path, kept as it was given; whether it exists is not looked at."""

    def check(self, value: object) -> str:
        if not isinstance(value, str | PurePath):
            raise Unfit("a path")
        path = one_line(str(value) if isinstance(value, PurePath) else value)
        # Path("") is the current directory: an argument left empty must not come to mean that.
        if not path or "\0" in path:
            raise Unfit("a path, neither empty nor with NUL in it")
        return path

    def load(self, value: Scalar) -> Path:
        return Path(str(value))


class Integer(Kind):
    """A whole number within 64 bits; a bool is none, and neither is text, unless it comes as a word."""

    def check(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unfit("an integer")
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise Unfit("an integer within 64 bits")
        return int(value)

    def parse(self, text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise Unfit("an integer")
        if len(text.lstrip("-").lstrip("0")) > INTEGER_DIGITS_MAX:
            raise Unfit("an integer within 64 bits")
        return self.check(int(text))


class Number(Kind):
    """A finite float; an integer is taken for one."""

    def check(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Unfit("a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        # JSON has no nan and no infinity.
        if not math.isfinite(number):
            raise Unfit("a finite number")
        return number

    def parse(self, text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise Unfit("a number")
        return self.check(float(text))

    def load(self, value: Scalar) -> float:
        return float(value)


class YesNo(Kind):
    """A bool."""

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Unfit("true or false")
        return value

    def parse(self, text: str) -> bool:
        try:
            return _YES_NO[text.lower()]
        except KeyError:
            raise Unfit("yes or no") from None


class Day(Kind):
    """A date in ISO 8601, kept as YYYY-MM-DD."""

    def check(self, value: object) -> str:
        # A datetime is a date to Python; taking it for one would drop its time without a word.
        if isinstance(value, date) and not isinstance(value, datetime):
            return value.isoformat()
        try:
            return date.fromisoformat(value if isinstance(value, str) else "").isoformat()
        except ValueError:
            raise Unfit("a date like 2026-11-22") from None

    def load(self, value: Scalar) -> date:
        return date.fromisoformat(str(value))


class Moment(Kind):
    """A date and time in ISO 8601, with or without offset as it was given; a date alone is its midnight."""

    def check(self, value: object) -> str:
        if isinstance(value, datetime):
            return value.isoformat()
        try:
            return datetime.fromisoformat(value if isinstance(value, str) else "").isoformat()
        except ValueError:
            raise Unfit("a date and time like 2026-11-22T10:15:07+00:00") from None

    def load(self, value: Scalar) -> datetime:
        return datetime.fromisoformat(str(value))


@dataclass(frozen=True)
class Choice(Kind):
    """One of some texts or integers; with `enum`, the values of its members."""

    choices: tuple[str | int, ...]
    enum: type[Enum] | None = None

    def check(self, value: object) -> str | int:
        plain = value.value if self.enum is not None and isinstance(value, self.enum) else value
        for choice in self.choices:
            # Types are compared too: True == 1, but it is not the choice 1.
            if type(plain) is type(choice) and plain == choice:
                return choice
        raise Unfit(self.name)

    def parse(self, text: str) -> str | int:
        for choice in self.choices:
            if str(choice) == text:
                return choice
        raise Unfit(self.name)

    def load(self, value: Scalar) -> object:
        return value if self.enum is None else self.enum(value)


TEXT = Text("text", "TEXT")
#: The annotations that are a kind by themselves.
KINDS: dict[object, Kind] = {
    str: TEXT,
    Path: PathText("path", "PATH"),
    int: Integer("integer", "INTEGER"),
    float: Number("number", "NUMBER"),
    bool: YesNo("yes/no", "YES|NO"),
    date: Day("date", "YYYY-MM-DD"),
    datetime: Moment("date and time", "YYYY-MM-DDTHH:MM:SS"),
}


def one_line(text: str) -> str:
    """Give the text as a plain `str`.

    Raises:
        Unfit: it breaks a line, or holds what the shell passed on from bytes that are not UTF-8 (PEP 383).
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Unfit("UTF-8 text")
    if "\n" in text or "\r" in text:
        raise Unfit("one line of text")
    # Of a str subclass, such as an Enum of texts, the text itself: str() would give "Colour.RED".
    return str.__str__(text)
