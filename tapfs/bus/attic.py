"""Putting files aside, and removing what tapfs itself has left behind. Nothing else is ever removed.

What is put aside is moved to `attic/repair-<n>/` below the operation, under the path that it had there, n being the
first under which that is free. What has no such place is renamed to `<name>.rejected-<n>` where it is.

Under the operation's lock, or the lock of a repair. People take neither: so what is moved is compared with what had
been looked at, and put back where it is something else.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.layout import OperationLayout
from tapfs.bus.locks import POLL_S, TIMEOUT_S
from tapfs.bus.scene import Thing, thing_at
from tapfs.errors import TapfsError

#: What tells what was looked at from what may come in its place.
Seen = tuple[int, int, int, int]


class Changed(Exception):
    """It is not what was looked at any more; it is where it was."""


def _place_in_attic(layout: OperationLayout, path: Path) -> Path:
    """A free place for a file of the operation's, its folders made."""
    number = 1
    inside = path.relative_to(layout.folder)
    while files.exists(layout.attic / f"repair-{number}" / inside):
        number += 1
    target = layout.attic / f"repair-{number}" / inside
    files.make_dirs(target.parent, layout.folder)
    return target


def put_aside(layout: OperationLayout, path: Path, seen: Seen | None) -> str:
    """Move it to the attic; the attic itself, and what is outside the operation, gets another name where it is.

    So does a lock: the attic may need mending first, under the lock.
    """
    if path in (layout.attic, layout.folder / "lock") or not path.is_relative_to(layout.folder):
        return rename_in_place(path, seen)
    target = _place_in_attic(layout, path)
    _move(path, target, seen)
    return str(target.relative_to(layout.folder))


def rename_in_place(path: Path, seen: Seen | None) -> str:
    """Give it the name `<name>.rejected-<n>`, which is returned."""
    number = 1
    while files.exists(f"{path}.rejected-{number}"):
        number += 1
    target = path.with_name(f"{path.name}.rejected-{number}")
    _move(path, target, seen)
    return target.name


def _move(path: Path, target: Path, seen: Seen | None) -> None:
    """Rename durably. What came in its place since it was looked at, somebody's mended file, is put back."""
    os.rename(path, target)
    if seen_at(target) != seen:
        if thing_at(target) is Thing.FILE:
            os.link(target, path)
            os.unlink(target)
        elif not files.exists(path):
            os.rename(target, path)
        raise Changed
    files.sync_dir(target.parent)
    files.sync_dir(path.parent)


def seen_at(path: Path) -> Seen | None:
    """What tells what is there from what may come in its place; a rename does not change it."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def keep(layout: OperationLayout, path: Path) -> str | None:
    """Give a file a second name in the attic, so that it may be replaced; returns that, None where there is none."""
    if not files.exists(path):
        return None
    target = _place_in_attic(layout, path)
    os.link(path, target, follow_symlinks=False)
    files.sync_dir(target.parent)
    return str(target.relative_to(layout.folder))


def remove_leftover(path: Path) -> None:
    """Remove a temporary file, or the folder of a start that died; raises FileNotFoundError where it is gone."""
    if thing_at(path) is not Thing.FOLDER:
        os.unlink(path)
        return
    import shutil  # 4 ms, for once in a while

    # Under another name first: should the start not have died but slept, it must not wake to half a folder.
    doomed = path.with_name(f"{files.TEMPORARY_PREFIX}{os.getpid()}-0-{os.urandom(4).hex()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed)


@contextmanager
def folder_held(folder: Path) -> Iterator[None]:
    """Keep other repairs out, by a lock on a folder; it dies with its process, and nobody else takes it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while not _take(descriptor):
            if time.monotonic() >= deadline:
                raise TapfsError(f"cannot lock '{folder}': another repair has held it for {TIMEOUT_S:g} s")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
