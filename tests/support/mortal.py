"""Death between any two writes: the same action again and again, gone one write later each time."""

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tapfs.bus import files, swap

#: Exit status of a child that died as planned.
_DEAD = 17
_MOST = 200

T = TypeVar("T")


def deaths(scene: Callable[[], T], action: Callable[[T], object]) -> Iterator[T]:
    """Run an action in children that are gone at its first write, its second, and so on, until one gets through.

    Args:
        scene: makes what the action is done to, anew each time.
        action: done to it, in a child made by fork.

    Yields:
        What the scene made, after each death, and at last after the action got through.
    """
    for number in range(_MOST):
        subject = scene()
        is_dead = _dies_at(number, lambda subject=subject: action(subject))
        print("died at write", number, "of", action)  # seen when the test fails
        yield subject
        if not is_dead:
            return
    raise AssertionError(f"it still dies after {_MOST} writes")


def _dies_at(number: int, action: Callable[[], object]) -> bool:
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, _DEAD), "the action raised; see stderr"
        return status == _DEAD
    try:
        _make_mortal(number)
        action()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _make_mortal(left: int) -> None:
    """Have this process end itself, as `kill -9` would, before its nth change of any name, or in an append."""

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os._exit(_DEAD)
            left -= 1
            return function(*args, **options)

        return call

    for name in ("rename", "link", "unlink", "mkdir"):
        setattr(os, name, mortal(getattr(os, name)))
    swap.exchange = mortal(swap.exchange)
    files.append_line = mortal(files.append_line)
