"""`workers/<name>/`: one folder a living worker, in which people ask it to drain.

`worker.json` says who it is and is locked by it for as long as it lives. While `DRAIN` is there (a person's) or
`STOPPING` (its own, once it is about to end) its steps stop at their next tap and go on elsewhere. The folder goes with
its worker, unless it holds a `DRAIN`: markers are levels, and a worker that comes back by that name is still to drain.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

from tapfs.bus import files, forks
from tapfs.bus.clock import timestamp
from tapfs.bus.layout import DRAIN, STOPPING, ControlLayout
from tapfs.bus.locks import ClaimLock, is_held
from tapfs.bus.records import WorkerCard
from tapfs.bus.requests import text_of_marker
from tapfs.errors import RecordInvalid

_CARD = "worker.json"
#: Begins the name of one who runs steps without being a worker.
FOREGROUND = "foreground@"
#: How often a card's lock is tried, and seconds in between.
_TRIES = 5
_PAUSE_S = 0.002


class WorkerFolder:
    """The folder of a worker that lives.

    Attributes:
        name: the folder's name; a number is added where another living worker has the name.
        path: the folder.
    """

    def __init__(self, path: Path, card: WorkerCard, lock: ClaimLock) -> None:
        self.name = path.name
        self.path = path
        self._card = card
        self._lock = lock

    @classmethod
    def enter(cls, control: ControlLayout, name: str, now: float) -> WorkerFolder:
        """Make the folder and be its worker; raises OSError where that cannot be done."""
        plain = re.sub(r"[^A-Za-z0-9_.@-]+", "_", name).lstrip(".")[:100] or "worker"
        files.make_dirs(control.workers, control.folder)
        number = 1
        while True:
            path = control.workers / (plain if number == 1 else f"{plain}.{number}")
            files.make_dir(path)
            card = WorkerCard(name=path.name, host=socket.gethostname(), pid=os.getpid(), started_at=timestamp(now))
            try:
                lock = _place(path / _CARD, card.encode())
            except FileNotFoundError:  # who cleared up after a dead one took the folder away, too
                continue
            if lock is not None:
                files.remove(path / STOPPING)  # of one that did not come to its end
                return cls(path, card, lock)
            number += 1

    def keep(self) -> None:
        """Make the folder anew if somebody removed it while the worker lives; where that cannot be, try again later."""
        if self._lock.is_ours():
            return
        with suppress(OSError):
            files.make_dirs(self.path.parent, self.path.parent.parent)
            files.make_dir(self.path)
            lock = _place(self.path / _CARD, self._card.encode())
            if lock is not None:
                self._lock.release()
                self._lock = lock

    def has_drain(self) -> bool:
        """Say whether a person asks it to drain."""
        return os.path.lexists(self.path / DRAIN)

    def why_leave(self) -> str | None:
        """Say why its steps are to stop at their next tap; None when they are not. Costs two looks at names."""
        for marker in (STOPPING, DRAIN):
            if os.path.lexists(self.path / marker):
                text = text_of_marker(self.path / marker)
                return f"workers/{self.name}/{marker}" + (f": {text}" if text else "")
        return None

    def stop(self, reason: str) -> None:
        """Say that the worker is about to end, and why, the first time. Safe in a signal handler.

        Where it cannot be said, steps run on.
        """
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.path / STOPPING, flags, files.FILE_MODE)
            os.write(descriptor, reason.encode())
            os.close(descriptor)

    def leave(self) -> None:
        """Take the folder away."""
        with suppress(OSError):
            if self._lock.is_ours():
                files.remove(self.path / _CARD)
                _clear(self.path)
        self._lock.release()


def worker_pids(control: ControlLayout, host: str) -> set[int]:
    """The processes of a host that are workers themselves, not children of one's pool."""
    found = set()
    for path in control.workers.glob(f"*/{_CARD}"):
        try:
            card = WorkerCard.read(path)
        except (OSError, RecordInvalid):
            continue
        if card.host == host:
            found.add(card.pid)
    return found


def living_workers(control: ControlLayout) -> set[str]:
    """The names of the workers that live and are not about to end."""
    return {
        card.parent.name
        for card in control.workers.glob(f"*/{_CARD}")
        if is_held(str(card)) and not files.exists(card.parent / STOPPING)
    }


def clear_dead(control: ControlLayout) -> None:
    """Take away the folders of workers that died without a word."""
    try:
        names = os.listdir(control.workers)
    except OSError:
        return
    for name in names:
        path = control.workers / name
        with suppress(OSError):
            if files.exists(path / _CARD) and _remove_dead(path / _CARD):
                _clear(path)


def _place(path: Path, content: bytes) -> ClaimLock | None:
    """Make a card that is locked from the first instant of its name; None where another who lives has one there."""
    if not _remove_dead(path):
        return None
    temporary = files.write_temporary(path.parent, content)
    try:
        descriptor = forks.open_alone(temporary, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(temporary, path)
        except BaseException:
            forks.close(descriptor)
            raise
    except FileExistsError:
        return None
    finally:
        files.remove(temporary)
    return ClaimLock(descriptor, str(path))


def _remove_dead(path: Path) -> bool:
    """Remove the card of a worker that died; says whether there is none any more.

    Only under its lock, so that of all who see it dead one removes it, and never the card of one who came after it.
    """
    for left in reversed(range(_TRIES)):
        try:
            descriptor = forks.open_alone(str(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                os.unlink(path)
        except FileNotFoundError:
            return True
        except OSError:
            if left:
                time.sleep(_PAUSE_S)  # somebody who only looks has it for an instant
        else:
            return not files.exists(path)
        finally:
            forks.close(descriptor)
    return False


def _clear(path: Path) -> None:
    """Remove what else is tapfs's own; a folder that holds more, such as a DRAIN, stays."""
    with suppress(OSError):
        files.remove(path / STOPPING)
        os.rmdir(path)
