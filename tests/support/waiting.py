"""Wait for a condition with a deadline, instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T],
    timeout_s: float = 10.0,
    message: str | Callable[[], str] = "the condition did not come true",
    *,
    every_s: float = 0.01,
) -> T:
    """Ask again and again until the condition is true, and return what it returned.

    Args:
        condition: Asked at least once, and a last time after the deadline. What it raises is passed on.
        timeout_s: Seconds until it gives up; 0 asks once.
        message: What to say then; called at that time when it is a function, so that it can tell what is there instead.
        every_s: Seconds between two questions.

    Raises:
        AssertionError: Time is up.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() >= deadline
        if value := condition():
            return value
        if is_last:
            text = message() if callable(message) else message
            raise AssertionError(f"after {timeout_s:g} s: {text}")
        time.sleep(every_s)
