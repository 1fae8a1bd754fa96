"""Times as tapfs writes them: RFC 3339, UTC, milliseconds. Times are passed in as seconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

#: Gives the wall clock in seconds since the epoch; `time.time` outside tests.
Clock = Callable[[], float]
#: 9999-12-31T23:59:59Z.
_LATEST = 253_402_300_799.0


def timestamp(seconds: float) -> str:
    """Write a time, e.g. `2026-11-22T10:15:07.120Z`; of what a calendar does not hold, the last that it does."""
    moment = datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def seconds_of(text: str | None) -> float | None:
    """Read a time that `timestamp` wrote; None for None and for what is not a time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
