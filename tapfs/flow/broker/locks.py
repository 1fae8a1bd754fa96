"""OS locks on files, which fall free when the process that holds them dies.

A forked child would keep its parent's lock alive: everything here and in `doorbell` closes its descriptors in children.
"""

import errno
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tapfs.flow.broker.files import BrokerError, explained
from tapfs.flow.broker.layout import FILE_MODE, make_dir

#: Longest wait for the lock of one short section, in seconds. Only a process that is stopped holds it so long.
LOCK_TIMEOUT_S = 5.0
_LOCK_POLL_S = 0.002


class ClosesInChildren(Protocol):
    def close_in_child(self) -> None:
        """Close all descriptors, and touch nothing else: the files are the parent's."""


_open: "weakref.WeakSet[ClosesInChildren]" = weakref.WeakSet()


def close_in_children(thing: ClosesInChildren) -> None:
    """Have `thing` closed in every process that is forked from this one."""
    _open.add(thing)


def _close_all_in_child() -> None:
    for thing in list(_open):
        thing.close_in_child()
    _open.clear()


os.register_at_fork(after_in_child=_close_all_in_child)


def open_locked(path: Path, create: bool = False) -> int | None:
    """Open a lock file and lock it without waiting; None when another holds it.

    Raises:
        OSError: it is not there, or no file that can be locked.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


class SectionLock:
    """Lets one thread of one process at a time into a short section; the same thread may enter again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._descriptor = -1
        close_in_children(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; the folder it lies in is made when absent.

        Raises:
            BrokerError: it cannot be made, or another process holds it for more than `LOCK_TIMEOUT_S`.
        """
        with self._thread_lock:
            if self._depth == 0:
                self._descriptor = self._acquire()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    os.close(self._descriptor)
                    self._descriptor = -1

    def close_in_child(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _acquire(self) -> int:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        with explained("lock", self._path, "nothing was changed"):
            while time.monotonic() < deadline:
                descriptor = self._try_once()
                if descriptor is not None:
                    return descriptor
                time.sleep(_LOCK_POLL_S)
        text = f"cannot lock {str(self._path)!r}: another process held it for {LOCK_TIMEOUT_S:g} s; nothing was changed"
        raise BrokerError(errno.ETIMEDOUT, text, str(self._path))

    def _try_once(self) -> int | None:
        try:
            descriptor = open_locked(self._path, create=True)
        except FileNotFoundError:
            make_dir(self._path.parent)
            return None
        # A lock file that was deleted meanwhile is locked by us alone, and by the next one too.
        if descriptor is not None and not names_file(self._path, descriptor):
            os.close(descriptor)
            return None
        return descriptor


def names_file(path: Path, descriptor: int) -> bool:
    """Return whether `path` is still the file that is open as `descriptor`."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
