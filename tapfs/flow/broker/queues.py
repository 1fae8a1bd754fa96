"""The folders of waiting messages: put, take, put back, count.

A queue is named here by its folder, that is by its encoded name. All moves are renames inside one file system, so that
a message is in exactly one place and two takers never get the same one.
"""

import logging
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapfs.flow.broker.files import ATTEMPTS, explained, list_dir, remove, write_whole
from tapfs.flow.broker.layout import Layout, make_dir
from tapfs.flow.broker.messages import encode, name_message, name_redelivery

_log = logging.getLogger(__name__)

#: A sorted listing is worked off for at least this long, in seconds, before a new one: so long can an urgent message
#: wait behind others.
LISTING_S = 0.05

#: Listing and sorting a deep queue may take this part of the time at most.
LISTING_SHARE = 0.05


class ConsumerLost(Exception):
    """The consumer's own folder is gone: somebody deleted or moved the broker. The message is still in its queue."""


@dataclass
class _Listing:
    names: deque[str] = field(default_factory=deque)
    valid_until_s: float = 0.0


@dataclass
class Queues:
    """The queues of one broker, as one connection sees them. Not for several threads that take."""

    layout: Layout
    _listings: dict[str, _Listing] = field(default_factory=dict)

    def create(self, folder: str) -> None:
        """Make a queue, if absent."""
        path = self.layout.queue_dir(folder)
        with explained("make the queue", path, "there is no such queue"):
            make_dir(path)

    def has(self, folder: str) -> bool:
        return self.layout.queue_dir(folder).is_dir()

    def put(self, folder: str, message: dict[str, Any], priority: int) -> None:
        """Put a message into a queue, which is made when absent.

        Raises:
            BrokerError: the folder is not writable, full, or no folder.
            EncodeError: the message is too large.
        """
        path = self.layout.queue_dir(folder)
        with explained("put a message into", path, "the message was not sent"):
            write_whole(self.layout, path / name_message(priority), encode(message))

    def take(self, folder: str, unacked_dir: Path) -> Path | None:
        """Move the first message that nobody else gets before us into `unacked_dir`; return where it is now.

        Raises:
            FileNotFoundError: there is no such queue.
            ConsumerLost: there is no `unacked_dir`.
        """
        queue_dir = self.layout.queue_dir(folder)
        while (name := self._next(folder)) is not None:
            taken = unacked_dir / name
            try:
                os.rename(queue_dir / name, taken)
                return taken
            except FileNotFoundError:
                if not unacked_dir.is_dir():
                    self._listings.pop(folder, None)  # the name is off the listing and still in the queue
                    raise ConsumerLost from None
        return None

    def put_back(self, folder: str, taken: Path) -> None:
        """Move a taken message back to its place in the queue. One that is gone stays gone: others put back as well."""
        path = self.layout.queue_dir(folder)
        with explained("put a message back into", path, f"it is still {str(taken)!r}"):
            for _ in range(ATTEMPTS):
                try:
                    os.rename(taken, path / name_redelivery(taken.name))
                    self._listings.pop(folder, None)  # for its place is in front
                    return
                except FileNotFoundError:
                    if not os.path.lexists(taken):
                        return
                    make_dir(path)

    def set_aside(self, folder: str, taken: Path, reason: str) -> None:
        """Move what is no message out of the way, to be looked at by a person, and say so in the log."""
        broken_dir = self.layout.broken_dir / folder
        with explained("set aside a broken message in", broken_dir, f"it is still {str(taken)!r}"):
            make_dir(broken_dir)
            target = broken_dir / taken.name
            if os.path.lexists(target):
                target = broken_dir / name_message(priority=0)
            os.rename(taken, target)
        _log.error("cannot deliver %r: %s; it was set aside as %r", taken.name, reason, str(target))

    def size(self, folder: str) -> int:
        return len(self._names(folder))

    def purge(self, folder: str, older_than_s: float = 0.0) -> int:
        """Remove waiting messages, of at least that age; return how many."""
        path, before = self.layout.queue_dir(folder), time.time() - older_than_s
        count = 0
        with explained("purge", path, "some messages may be left"):
            for name in self._names(folder):
                if older_than_s == 0.0 or _changed_at(path / name) < before:
                    count += remove(path / name)
        return count

    def delete(self, folder: str) -> None:
        """Remove a queue with its messages."""
        path = self.layout.queue_dir(folder)
        with explained("delete the queue", path, "some messages may be left"):
            remove(path)

    def _names(self, folder: str) -> list[str]:
        return [name for name in list_dir(self.layout.queue_dir(folder)) if not name.startswith(".")]

    def _next(self, folder: str) -> str | None:
        """Return the first name not tried yet, from a listing that is not too old."""
        listing = self._listings.setdefault(folder, _Listing())
        started = time.monotonic()
        if not listing.names or started > listing.valid_until_s:
            names = os.listdir(self.layout.queue_dir(folder))
            listing.names = deque(sorted(name for name in names if not name.startswith(".")))
            now = time.monotonic()
            listing.valid_until_s = now + max(LISTING_S, (now - started) / LISTING_SHARE)
        return listing.names.popleft() if listing.names else None


def _changed_at(path: Path) -> float:
    """Return when a message was put or put back, in seconds since the epoch; now, if it is gone."""
    try:
        return path.lstat().st_ctime
    except FileNotFoundError:
        return time.time()
