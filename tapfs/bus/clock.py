"""Times as tapfs writes them: RFC 3339, UTC, milliseconds. Times are passed in as seconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

#: Gives the wall clock in seconds since the epoch; `time.time` outside tests.
Clock = Callable[[], float]


def timestamp(seconds: float) -> str:
    """Write a time, e.g. `2026-11-22T10:15:07.120Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def seconds_of(text: str | None) -> float | None:
    """Read a time that `timestamp` wrote; None for None and for what is not a time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
