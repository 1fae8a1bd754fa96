"""Silence: who has given no sign of life for too long, as one observer has seen it.

Signs are compared with each other and time is the observer's own, so clocks that differ between hosts do no harm. Time
that the observer itself slept through (it was stopped, the machine was suspended) hardly counts: the others slept, too.
"""

from __future__ import annotations

from tapfs.bus import claims, files
from tapfs.bus.claims import Out
from tapfs.bus.layout import OperationLayout


class Stillness:
    """For how long a sign of life has not changed.

    Args:
        longest_gap_s: no more than this counts between two looks, in seconds.
    """

    def __init__(self, longest_gap_s: float) -> None:
        self._longest_gap_s = longest_gap_s
        self._seen: tuple[files.Identity | None, float, float] | None = None

    def look(self, sign: files.Identity | None, now: float) -> float:
        """Look at a sign; returns the seconds for which it was seen to be the same.

        Args:
            sign: what changes while somebody lives.
            now: seconds by a clock that never goes back.
        """
        silent_s = 0.0
        if self._seen is not None and self._seen[0] == sign:
            silent_s = self._seen[2] + min(now - self._seen[1], self._longest_gap_s)
        self._seen = (sign, now, silent_s)
        return silent_s


class Silence:
    """Watches the signs of life on claims.

    Args:
        limit_s: seconds of silence that are too long.
        longest_gap_s: no more than this counts between two looks, in seconds.
    """

    def __init__(self, limit_s: float, longest_gap_s: float) -> None:
        self._limit_s = limit_s
        self._longest_gap_s = longest_gap_s
        self._seen: dict[str, dict[str, Stillness]] = {}

    def look(self, layout: OperationLayout, now: float) -> list[Out]:
        """Look at an operation's claims; returns those whose holders have been silent for too long.

        Args:
            layout: the operation's files.
            now: seconds by a clock that never goes back.
        """
        held = {out.path: out for out in claims.all_out(layout) if out.sign is not None}
        before = self._seen.get(layout.id, {})
        seen = {path: before.get(path) or Stillness(self._longest_gap_s) for path in held}
        if seen:
            self._seen[layout.id] = seen
        else:
            self.forget(layout.id)
        return [out for path, out in held.items() if seen[path].look(out.sign, now) >= self._limit_s]

    def forget(self, operation_id: str) -> None:
        """Remember no more of an operation of which nothing runs."""
        self._seen.pop(operation_id, None)
