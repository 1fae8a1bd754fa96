"""One parameter of an operation, and what a single argument for it must be.

Every fault text is made here or in `arguments`, and the value of a masked parameter is in none of them.
"""

from __future__ import annotations

import csv
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tapfs.flow.parameters.kinds import Choice, Json, Kind, Scalar, Unfit, one_line

#: Characters of a value that a fault shows.
SHOWN_MAX = 60

_Given = TypeVar("_Given")


class Faulty(ValueError):
    """An argument does not fit its parameter; `faults` says all that is wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(*faults)
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, what it takes, and what it is when not given.

    `default` is JSON and means something only when not `required`. An optional parameter takes None.
    """

    name: str
    item: Kind
    required: bool
    # Not in repr: it may be masked.
    default: Json = field(default=None, repr=False)
    is_list: bool = False
    is_optional: bool = False
    is_masked: bool = False

    @property
    def kind(self) -> str:
        """What it takes, as people are shown it: "integer", "one of a|b", "list of text"."""
        return f"list of {self.item.name}" if self.is_list else self.item.name

    @property
    def placeholder(self) -> str:
        """What stands for a value in a usage line: "INTEGER", "a|b", "TEXT,..."."""
        return f"{self.item.placeholder},..." if self.is_list else self.item.placeholder

    @property
    def choices(self) -> tuple[str | int, ...]:
        """The values it takes, or of a list its items; empty when they are not counted out."""
        return self.item.choices if isinstance(self.item, Choice) else ()

    def check(self, value: object) -> Json:
        """Give the JSON value for a Python or JSON one.

        Raises:
            Faulty: it does not fit; every ill item of a list is told.
        """
        if value is None and self.is_optional:
            return None
        if not self.is_list:
            return self._converted(self.item.check, [value])[0]
        if not isinstance(value, list | tuple):
            raise Faulty([self._fault(f"a {self.kind}", value)])
        return self._converted(self.item.check, value)

    def parse(self, texts: Sequence[str]) -> Json:
        """Give the JSON value for what stood behind `KEY=`.

        Args:
            texts: one for each time the key was given, at least one. For an optional parameter "none", "null" and
                the empty text are None, unless they are a choice. For a list each is a line of CSV: comma separated,
                an item with a comma in it in double quotes; an empty text adds nothing.

        Raises:
            Faulty: it does not fit, or was given more than once and is no list.
        """
        if len(texts) == 1 and self._is_none(texts[0]):
            return None
        if not self.is_list:
            if len(texts) > 1:
                raise Faulty([f"'{self.name}' is given {len(texts)} times"])
            return self._converted(self.item.parse, texts)[0]
        items: list[str] = []
        faults: list[str] = []
        for text in texts:
            try:
                items += _split(text)
            except Unfit as unfit:
                faults.append(self._fault(str(unfit), text))
        if faults:
            raise Faulty(faults)
        return self._converted(self.item.parse, items)

    def load(self, value: Json) -> object:
        """Turn what `check` or `parse` gave into what the function is annotated with."""
        if isinstance(value, list):
            return [self.load(item) for item in value]
        return self.item.load(value) if isinstance(value, bool | int | float | str) else value

    def _converted(self, convert: Callable[[_Given], Scalar], values: Sequence[_Given]) -> list[Json]:
        """Convert every value, or raise `Faulty` with the faults of all."""
        converted: list[Json] = []
        faults: list[str] = []
        for position, value in enumerate(values, start=1):
            try:
                converted.append(convert(value))
            except Unfit as unfit:
                faults.append(self._fault(str(unfit), value, position if self.is_list else None))
        if faults:
            raise Faulty(faults)
        return converted

    def _fault(self, wanted: str, value: object, position: int | None = None) -> str:
        """Say what the argument, or its item at the position, must be, and what it is if that may be shown."""
        subject = f"'{self.name}'" if position is None else f"item {position} of '{self.name}'"
        or_none = " or none" if self.is_optional and position is None else ""
        shown = "" if self.is_masked else f", not {shorten(value)}"
        return f"{subject} must be {wanted}{or_none}{shown}"

    def _is_none(self, text: str) -> bool:
        return self.is_optional and text.lower() in ("", "none", "null") and text not in map(str, self.choices)


def shorten(value: object) -> str:
    """Give the repr of a value on one line, in at most `SHOWN_MAX` characters, all of them printable."""
    line = " ".join(_SHORTENED.repr(value).split()).encode("utf-8", "backslashreplace").decode()
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= SHOWN_MAX else f"{line[: SHOWN_MAX - 3]}..."


class _Shortened(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = SHOWN_MAX

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out more than 4300 digits (CVE-2020-10735).
        return super().repr_int(x, level) if x.bit_length() <= 1024 else f"an integer of {x.bit_length()} bits"


_SHORTENED = _Shortened()


def _split(text: str) -> list[str]:
    """Split a line of CSV; raise `Unfit` if it is none."""
    try:
        return next(csv.reader([one_line(text)], strict=True))
    except csv.Error:
        raise Unfit("a comma separated list, with items that hold a comma or quote in double quotes") from None
