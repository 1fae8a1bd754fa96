"""One fold of a running step: its value, and the newest snapshot in which cursor and value belong together.

A value that JSON does not give back as it is cannot be saved, and is refused with the culprit named.
"""

from __future__ import annotations

import json
import time
from typing import Any

from tapfs.bus.fields import Json
from tapfs.errors import ResultUnstorable
from tapfs.flow.codec import is_faithful, is_plain

#: A snapshot or a checkpoint may take this share of the time.
SHARE = 0.05
#: Characters after which no longer path into a value is told.
_LONGEST_PLACE = 200


class Fold:
    """One fold of a step: its value, and the newest snapshot of cursor and value."""

    def __init__(self, source: Any, value: Any, cursor: Json, done: float, total: float | None) -> None:
        self.value = value
        self.cursor = cursor
        self.done = done
        self.total = total
        self.unit: str = source.unit
        self.saved: Json = None
        self._identity = source.identity()
        self._is_current = False
        self.next_snapshot = 0.0
        self.is_open = True

    def move(self, cursor: Json, done: float) -> None:
        """Be behind a chunk."""
        self.cursor, self.done, self._is_current = cursor, done, False

    def snapshot(self) -> None:
        """Keep cursor and value together as they are now; only between two chunks.

        Raises:
            ResultUnstorable: JSON would not give them back as they are.
        """
        if self._is_current:
            return
        start = time.monotonic()
        turn = {"identity": self._identity, "cursor": self.cursor, "done": self.done, "value": self.value}
        try:
            kept = json.loads(json.dumps(turn, allow_nan=False))
            is_same = kept == turn and is_plain(turn)
        except (TypeError, ValueError, RecursionError):
            is_same = False
        if not is_same:
            raise unfaithful(self.value) if is_faithful(self.cursor) else unfaithful(self.cursor, "cursor")
        self.saved, self._is_current = kept, True
        end = time.monotonic()
        self.next_snapshot = end + (end - start) / SHARE


def unfaithful(value: object, what: str = "value") -> ResultUnstorable:
    """The error for a fold's value or cursor that JSON does not give back as it is."""
    return ResultUnstorable(
        f"a fold's {what} cannot be saved: JSON does not give it back as it is ({_culprit(value, what)})",
        hint="use plain dicts with text keys, lists, texts, finite numbers, booleans and None",
    )


def _culprit(value: object, where: str) -> str:
    """Name the first part of a value that JSON does not keep."""
    if len(where) > _LONGEST_PLACE:  # it may contain itself
        return where
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                return f"the key {key!r} in {where} is {type(key).__name__}, not text"
            if not is_faithful(inner):
                return _culprit(inner, f"{where}[{key!r}]")
    if isinstance(value, list):
        for place, inner in enumerate(value):
            if not is_faithful(inner):
                return _culprit(inner, f"{where}[{place}]")
    return f"{where} is {type(value).__name__}: {value!r}"[:200]
