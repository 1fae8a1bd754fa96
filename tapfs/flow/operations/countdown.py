"""`countdown`: a chain of steps that only wait, for trying pause, resume and cancel."""

from __future__ import annotations

import time
from typing import Any

from celery import chain, shared_task

from tapfs.errors import TapfsError
from tapfs.flow import tap

#: Seconds between two taps.
_TICK_S = 0.05


def countdown(steps: int = 10, seconds: float = 1.0) -> Any:
    """Count down in steps of some seconds each.

    Args:
        steps: how many, from 1 to 100,000.
        seconds: how long each takes, from 0.
    """
    if not 1 <= steps <= 100_000 or not 0 <= seconds < 10**9:
        raise TapfsError(
            f"cannot count down {steps} steps of {seconds:g} s",
            hint="steps must be from 1 to 100,000, and seconds not below 0",
        )
    return chain(*(tick.si(left, seconds) for left in range(steps, 0, -1)))


@shared_task(name="tapfs.countdown.tick")
def tick(left: int, seconds: float) -> int:
    """Wait; returns how many steps are left after this one."""
    end = time.monotonic() + seconds
    while (remaining := end - time.monotonic()) > 0:
        tap.progress(round(seconds - remaining, 2), seconds, unit="seconds")
        time.sleep(min(_TICK_S, remaining))
    return left - 1
