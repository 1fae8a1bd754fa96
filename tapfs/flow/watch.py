"""File events as hints: which operation may have changed. What is missed here is found by the scan.

Invariant: the thread of watchdog only notes a name; nothing is read there, and no exception can end it. Our own reads
give no events, because the filter leaves them out; events of our own writes come back and are harmless.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from tapfs.bus.files import TEMPORARY_PREFIX
from tapfs.bus.layout import ID, PAUSE

logger = logging.getLogger(__name__)

# A folder that is made while watchdog goes through its parent is added twice; the second time replaces the first.
warnings.filterwarnings("ignore", message="Callback with id .* already exists for watch", category=RuntimeWarning)

#: Files in an operation's folder that only tapfs writes: their events ask for nothing.
_OWN = frozenset({"run.json", "journal.jsonl", "lock", "result.json", "error.json", "steps", "claims", "attic"})

#: The name handed out when an event concerns everything.
EVERYTHING = "*"

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]


class Watch(FileSystemEventHandler):
    """Watches a control directory's operations and its PAUSE."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._operations = control / "operations"
        self._depth = len(self._operations.parts)
        self._names: set[str] = set()
        self._is_woken = False
        self._bell = threading.Condition()
        self._observer: BaseObserver | None = None

    def start(self) -> None:
        """Begin to watch; where that cannot be done, say so once and rely on the scan."""
        observer = Observer()
        try:
            observer.schedule(self, str(self._control), recursive=False, event_filter=_EVENTS)
            observer.schedule(self, str(self._operations), recursive=True, event_filter=_EVENTS)
            observer.start()
        except (OSError, RuntimeError) as error:
            logger.warning("no file events in %s: %s; it is scanned instead", self._control, error)
            return
        self._observer = observer

    def stop(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(5)
            self._observer = None

    def keep_up(self) -> None:
        """Start again if the watching thread has died; called at each scan."""
        if self._observer is not None and not self._observer.is_alive():
            logger.warning("the watch on %s has died; it is started again", self._control)
            self._observer = None
            self.start()

    def wait(self, timeout_s: float) -> set[str]:
        """Wait for events; returns the names of what they concern, none when time is up or after `wake`."""
        with self._bell:
            if not self._names and not self._is_woken:
                self._bell.wait(timeout_s)
            names, self._names, self._is_woken = self._names, set(), False
        return names

    def wake(self) -> None:
        """Make `wait` return, also one that has not begun."""
        with self._bell:
            self._is_woken = True
            self._bell.notify_all()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note whom an event concerns."""
        for path in (event.src_path, event.dest_path):
            parts = Path(path if isinstance(path, str) else bytes(path).decode("utf-8", "replace")).parts
            inner = parts[self._depth :] if parts[: self._depth] == self._operations.parts else ()
            if inner and _may_ask(inner, event):
                self._note(inner[0])
            elif parts and parts == (*self._control.parts, PAUSE):
                self._note(EVERYTHING)

    def _note(self, name: str) -> None:
        with self._bell:
            self._names.add(name)
            self._bell.notify_all()


def _may_ask(inner: tuple[str, ...], event: FileSystemEvent) -> bool:
    """Whether an event below `operations/` may be somebody's request or answer, or the death of a claim's holder.

    A claim that is closed and still has its name was let go by a process that died: its end would have removed it.
    """
    if not ID.fullmatch(inner[0]) or any(name.startswith(TEMPORARY_PREFIX) for name in inner):
        return False  # also an operation that is only being made: its start has nothing to do with the others
    if len(inner) <= 2:
        return inner[-1] not in _OWN
    if inner[1] == "gates":
        return inner[-1] == "answer.json"
    return inner[1] == "claims" and isinstance(event, FileClosedEvent) and os.path.lexists(event.src_path)
