"""Silence: which holders of claims have given no sign of life for too long, as one observer has seen it.

Signs are compared with each other and time is the observer's own, so clocks that differ between hosts do no harm. Time
that the observer itself slept through (it was stopped, the machine was suspended) hardly counts: the others slept, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapfs.bus import claims, files
from tapfs.bus.claims import Out
from tapfs.bus.layout import OperationLayout


@dataclass
class _Seen:
    sign: files.Identity
    looked_at: float
    silent_s: float = 0.0


class Silence:
    """Watches the signs of life on claims.

    Args:
        limit_s: seconds of silence that are too long.
        longest_gap_s: no more than this counts between two looks, in seconds.
    """

    def __init__(self, limit_s: float, longest_gap_s: float) -> None:
        self._limit_s = limit_s
        self._longest_gap_s = longest_gap_s
        self._seen: dict[str, dict[str, _Seen]] = {}

    def look(self, layout: OperationLayout, now: float) -> list[Out]:
        """Look at an operation's claims; returns those whose holders have been silent for too long.

        Args:
            layout: the operation's files.
            now: seconds by a clock that never goes back.
        """
        held = {out.path: out for out in claims.all_out(layout) if out.sign is not None}
        before = self._seen.get(layout.id, {})
        seen = {path: self._compared(before.get(path), out, now) for path, out in held.items()}
        if seen:
            self._seen[layout.id] = seen
        else:
            self._seen.pop(layout.id, None)
        return [held[path] for path, one in seen.items() if one.silent_s >= self._limit_s]

    def forget(self, operation_id: str) -> None:
        """Remember no more of an operation of which nothing runs."""
        self._seen.pop(operation_id, None)

    def _compared(self, before: _Seen | None, out: Out, now: float) -> _Seen:
        assert out.sign is not None
        if before is None or before.sign != out.sign:
            return _Seen(out.sign, now)
        gap_s = min(now - before.looked_at, self._longest_gap_s)
        return _Seen(out.sign, now, before.silent_s + gap_s)
