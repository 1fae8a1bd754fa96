"""Descriptors that a forked child must not keep: it would hold its parent's locks, and look like a writer.

O_CLOEXEC covers only children that run another program; a pool's child does not. A fork waits while a descriptor is
opened and noted, so that none slips through in between.
"""

from __future__ import annotations

import os
import threading

_fork = threading.Lock()
_kept: set[int] = set()


def open_alone(path: str, flags: int, mode: int = 0) -> int:
    """Open a file as `os.open` does, for this process alone; to be closed by `close`."""
    with _fork:
        descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
        _kept.add(descriptor)
    return descriptor


def close(descriptor: int) -> None:
    """Close what `open_alone` opened."""
    with _fork:
        _kept.discard(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in _kept:
        os.close(descriptor)
    _kept.clear()
    _fork.release()


os.register_at_fork(before=_fork.acquire, after_in_parent=_fork.release, after_in_child=_close_in_child)
