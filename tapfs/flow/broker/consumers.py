"""Consumers: who took which message, and what is done when one dies.

Owns `consumers/`. A consumer's folder appears with its lock already held, so a folder whose lock is free is a dead
one's, and whoever gets that lock may put its messages back.
"""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from tapfs.flow.broker.exchanges import Exchanges
from tapfs.flow.broker.files import ATTEMPTS, explained, list_dir, remove, write_whole
from tapfs.flow.broker.layout import Layout, make_dir
from tapfs.flow.broker.locks import close_in_children, names_file, open_locked
from tapfs.flow.broker.queues import Queues

_log = logging.getLogger(__name__)

#: Age at which a message to a queue of replies, commands or events is removed unread, in seconds.
STALE_S = 3600.0


class Consumer:
    """One consuming connection's folder and lock. Made on the first need; a process that only sends has none."""

    def __init__(self, layout: Layout, queues: Queues, exchanges: Exchanges) -> None:
        self._layout, self._queues, self._exchanges = layout, queues, exchanges
        self._pid = os.getpid()
        self._owned: set[str] = set()
        self._descriptor = -1
        with explained("register a consumer in", layout.consumers_dir, "nothing was taken"):
            self._register()
        close_in_children(self)

    def unacked_path(self, folder: str, name: str = "") -> Path:
        return self.path / "unacked" / folder / name

    def is_registered(self) -> bool:
        """Return whether the folder is still there, with the lock we hold."""
        return names_file(self.path / "lock", self._descriptor)

    def is_ours(self) -> bool:
        """Return whether this is still the process that registered, and not a child of it."""
        return self._pid == os.getpid() and self._descriptor >= 0

    def register_again(self) -> None:
        """Make a new folder, after the old one was deleted or moved; what had been taken is gone with it."""
        os.close(self._descriptor)
        with explained("register a consumer in", self._layout.consumers_dir, "nothing was taken"):
            self._register()
        for folder in self._owned:
            self.own(folder)

    def own(self, folder: str) -> None:
        """Have a queue deleted with this consumer, unless another one owns it too. Locks and writes."""
        self._owned.add(folder)
        path = self.path / "owns" / folder
        with self._exchanges.lock.held(), explained("own a queue in", path, "it stays when its consumer goes"):
            if not path.exists():
                write_whole(self._layout, path, b"")

    def close(self) -> None:
        """Put everything back, delete what is owned, and unregister."""
        if self.is_ours():
            try:
                _bury(self.path, self._layout, self._queues, self._exchanges)
            except OSError as exc:
                _log.warning("cannot unregister consumer %r: %s; another one will do it", self.path.name, exc)
            os.close(self._descriptor)
        self._descriptor = -1

    def close_in_child(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _register(self) -> None:
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        built, self.path = self._layout.tmp_dir / name, self._layout.consumers_dir / name
        for attempt in range(ATTEMPTS):
            descriptor = None
            try:
                make_dir(built)
                make_dir(self._layout.consumers_dir)
                descriptor = open_locked(built / "lock", create=True)
                os.rename(built, self.path)
                break
            except FileNotFoundError:
                if descriptor is not None:
                    os.close(descriptor)
                if attempt == ATTEMPTS - 1:
                    raise
        assert descriptor is not None  # nobody else knows the name
        self._descriptor = descriptor


def bury_the_dead(layout: Layout, queues: Queues, exchanges: Exchanges) -> None:
    """Put back what consumers took whose process is gone, and delete what they owned."""
    for name in list_dir(layout.consumers_dir):
        path = layout.consumers_dir / name
        try:
            descriptor = open_locked(path / "lock")
        except FileNotFoundError:
            descriptor = -1  # without a lock nobody lives in it
        except OSError:
            continue  # no folder of a consumer: a person put it here
        if descriptor is None:
            continue
        try:
            _bury(path, layout, queues, exchanges)
        except OSError as exc:
            _log.warning("cannot put back what dead consumer %r took: %s; it will be tried again", name, exc)
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def remove_stale(layout: Layout, queues: Queues) -> None:
    """Remove old messages from queues that are read at once or never, and what dead writers left."""
    owned: set[str] = set()
    for name in list_dir(layout.consumers_dir):
        owned.update(list_dir(layout.consumers_dir / name / "owns"))
    for folder in list_dir(layout.queues_dir):
        is_inbox = folder.endswith(".pidbox") or folder.startswith("celeryev.")
        if is_inbox or folder in owned:
            _purge_stale(queues, folder)
        if is_inbox and folder not in owned:
            with suppress(OSError):  # not empty, or no folder
                layout.queue_dir(folder).rmdir()
    before = time.time() - STALE_S
    for name in list_dir(layout.tmp_dir):
        path = layout.tmp_dir / name
        try:
            if path.lstat().st_mtime < before:
                remove(path)
        except FileNotFoundError:
            continue


def _purge_stale(queues: Queues, folder: str) -> None:
    try:
        queues.purge(folder, older_than_s=STALE_S)
    except OSError as exc:
        _log.warning("%s", exc)


def _bury(path: Path, layout: Layout, queues: Queues, exchanges: Exchanges) -> None:
    for folder in list_dir(path / "unacked"):
        for name in list_dir(path / "unacked" / folder):
            queues.put_back(folder, path / "unacked" / folder / name)
    # Under the lock: another consumer that is just declaring the queue is seen, or comes after and makes it anew.
    with exchanges.lock.held():
        for folder in list_dir(path / "owns"):
            remove(path / "owns" / folder)
            others = list_dir(layout.consumers_dir)
            if not any((layout.consumers_dir / other / "owns" / folder).exists() for other in others):
                exchanges.unbind_queue(folder)
                queues.delete(folder)
    remove(path)
