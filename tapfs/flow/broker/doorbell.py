"""Waiting until there may be something to take.

inotify says when a file is put into a watched folder, a pipe when this process wants to look again. Both are hints: a
look is due every second anyhow, and several times a second where no events come (a network file system, FUSE, no
inotify at all), which shows when messages are found that no event had announced.

No thread, so nothing that a fork could lose: the waiting thread sleeps in `poll(2)`, here or in an event loop.
"""

import ctypes
import errno
import os
import select
import struct
import threading
from contextlib import suppress
from pathlib import Path

from tapfs.flow.broker.locks import close_in_children

#: Longest wait without a look where events come, in seconds.
NET_S = 1.0

#: Shortest and longest wait without a look where no events come, in seconds.
POLL_MIN_S = 0.05
POLL_MAX_S = 0.25

#: So many unannounced messages in a row mean that no events come here.
SILENT_ARRIVALS = 2

# From <sys/inotify.h>.
_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x8, 0x80, 0x400, 0x800
_IN_UNMOUNT, _IN_Q_OVERFLOW, _IN_IGNORED, _IN_ONLYDIR = 0x2000, 0x4000, 0x8000, 0x01000000
_WATCHED = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_LOST = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_Q_OVERFLOW | _IN_IGNORED
_HEADER = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


def _open_inotify() -> int:
    """Return an inotify descriptor; -1 where there is none, or no more of them."""
    try:
        return int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    except AttributeError:
        return -1


class Doorbell:
    """What one connection waits on."""

    def __init__(self) -> None:
        #: A watched folder may have been deleted or moved: watch it again.
        self.has_lost_watch = False
        self._inotify = _open_inotify()
        self._pipe_out, self._pipe_in = os.pipe()
        self._close_lock = threading.RLock()  # a signal may ring while the same thread does
        self._watches: dict[str, int] = {}
        self._is_deaf = self._inotify < 0
        self._is_rung = True
        self._silent_arrivals = 0
        self._pause_s = POLL_MIN_S
        self._poll = select.poll()
        for descriptor in self.descriptors():
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)
        os.set_blocking(self._pipe_in, False)
        close_in_children(self)

    def watch(self, folder: Path) -> None:
        """Be woken by files put into a folder; watched already, make sure that it is still the same folder.

        A look must follow: what was put before is not announced.
        """
        if self._inotify < 0:
            return
        watch = int(_libc.inotify_add_watch(self._inotify, os.fsencode(folder), _WATCHED))
        if watch < 0:
            if ctypes.get_errno() == errno.ENOENT:
                self.has_lost_watch = True
            else:  # no more watches, or no file system for them
                self._is_deaf = True
            return
        before = self._watches.get(str(folder))
        self._watches[str(folder)] = watch
        if before is not None and before != watch:
            _libc.inotify_rm_watch(self._inotify, before)

    def unwatch(self, folder: Path) -> None:
        watch = self._watches.pop(str(folder), None)
        if watch is not None:
            _libc.inotify_rm_watch(self._inotify, watch)

    def ring(self) -> None:
        """Wake the waiting thread; for other threads, and for what no file tells."""
        with self._close_lock:
            if self._pipe_in >= 0:
                with suppress(BlockingIOError):  # full: it rings already
                    os.write(self._pipe_in, b"!")

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until a look is due, for `timeout_s` seconds at most; None sets no limit of its own."""
        pause_s = self.next_pause_s()
        self._await_ring(pause_s if timeout_s is None else min(pause_s, timeout_s))

    def answer(self) -> bool:
        """Take off all that rang, without waiting; return whether anything did. A look must follow if so."""
        return self._await_ring(0.0)

    def next_pause_s(self) -> float:
        """Return how long to wait without a look, in seconds: where no events come, longer each time it is asked."""
        pause_s = self._pause_s if self._is_deaf else NET_S
        self._pause_s = min(POLL_MAX_S, self._pause_s * 1.5)
        return pause_s

    def descriptors(self) -> list[int]:
        """Return what an event loop is to watch: readable when it rings. Empty once closed, here or by a fork."""
        return [descriptor for descriptor in (self._inotify, self._pipe_out) if descriptor >= 0]

    def tell_arrival(self) -> None:
        """Note that a look found a message; whether events come is judged by whether one announced it."""
        self._pause_s = POLL_MIN_S
        if self._is_rung or self._poll.poll(0):
            self._silent_arrivals = 0
        else:
            self._silent_arrivals += 1
            self.has_lost_watch = True
            self._is_deaf = self._is_deaf or self._silent_arrivals >= SILENT_ARRIVALS
        self._is_rung = True  # what else is found before the next wait was there with it

    def close(self) -> None:
        with self._close_lock:
            self.close_in_child()

    def close_in_child(self) -> None:
        for descriptor in (self._inotify, self._pipe_out, self._pipe_in):
            if descriptor >= 0:
                os.close(descriptor)
        self._inotify = self._pipe_out = self._pipe_in = -1

    def _await_ring(self, timeout_s: float) -> bool:
        self._is_rung = bool(self._poll.poll(1000 * timeout_s))
        if self._is_rung:
            self._silence()
        return self._is_rung

    def _silence(self) -> None:
        """Take off all that rang, and see whether a watch was lost."""
        with suppress(BlockingIOError):
            os.read(self._pipe_out, 4096)
        events = b""
        with suppress(BlockingIOError):
            events = os.read(self._inotify, 65536) if self._inotify >= 0 else b""
        offset = 0
        while offset < len(events):
            watch, mask, _, length = _HEADER.unpack_from(events, offset)
            offset += _HEADER.size + length
            if mask & _IN_Q_OVERFLOW or (mask & _LOST and watch in self._watches.values()):
                self.has_lost_watch = True
