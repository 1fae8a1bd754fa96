"""Durable files: the only way in which tapfs writes.

Invariant: a name never points at missing bytes. New content goes to a temporary file, is synced, gets its name by
`rename(2)` or `link(2)`, and the folder is synced; after a power cut the old file or the new one is there, whole.
Reading never hangs and never follows a link: people can put anything under any name.

It does not promise that two writers take turns: that is what `locks` is for.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapfs import settings
from tapfs.bus import forks

#: Permissions of what tapfs makes, before the umask: the owner and the group, nobody else.
FILE_MODE = 0o660
DIR_MODE = 0o770

#: Beginning of the name of a file that is still being written.
TEMPORARY_PREFIX = ".tmp-"

_serial = itertools.count()

#: What tells one version of a file from another (inodes are reused at once, so the inode alone does not).
Identity = tuple[int, int, int, int]


class NotAFile(OSError):
    """There is something under that name that tapfs does not read: a link, a folder, a device, or too many bytes."""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Have errors of calls that are given a descriptor say which file it is of."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, (str, bytes)):  # none, or the descriptor's number
            error.filename = str(path)
        raise


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells this version of a file from any other."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        FileNotFoundError: nothing is there.
        NotAFile: a link, folder, FIFO, device, or a larger file is there.
        OSError: it cannot be read.
    """
    descriptor = open_to_read(path)
    try:
        content = b""
        while len(content) <= limit:
            with naming(path):
                block = os.read(descriptor, limit + 1 - len(content))
            if not block:
                return content
            content += block
        raise NotAFile(errno.EFBIG, f"it is larger than {limit:,} bytes", str(path))
    finally:
        os.close(descriptor)


def open_to_read(path: str | Path, flags: int = 0) -> int:
    """Open a regular file for reading; never waits, follows no link. Fit as `opener` of `open`.

    Raises:
        FileNotFoundError: nothing is there.
        NotAFile: a link, folder, FIFO or device is there.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, flags | os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile(errno.ELOOP, "it is a symbolic link", str(path)) from None
        if error.errno == errno.ENXIO:
            raise NotAFile(errno.ENXIO, "it is not a regular file", str(path)) from None
        raise
    try:
        with naming(path):
            mode = os.fstat(descriptor).st_mode
    except OSError:
        os.close(descriptor)
        raise
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise NotAFile(errno.EISDIR, "it is a folder", str(path))
    raise NotAFile(errno.EINVAL, "it is not a regular file", str(path))


def exists(path: str | Path) -> bool:
    """Say whether anything at all, also a dangling link, has that name.

    Raises:
        OSError: that cannot be told (no permission, an input error): not there is not the same as not seen.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def sync_dir(path: str | Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(path):
            _sync(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: str | Path) -> None:
    """Make the bytes of a regular file durable; nothing happens where there is none."""
    try:
        descriptor = open_to_read(path)
    except (FileNotFoundError, NotAFile):
        return
    try:
        with naming(path):
            _sync(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def _sync(call: Callable[[int], None], descriptor: int) -> None:
    """Make a file or folder durable, unless the user wants speed over that: what is whole stays whole all the same,
    as long as the machine does not lose its power.
    """
    if settings.is_synced():
        call(descriptor)


def write_temporary(folder: str | Path, content: bytes) -> str:
    """Write `content`, synced, under a name that nobody else uses in `folder`; return its path."""
    path = os.path.join(folder, f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_serial)}-{os.urandom(4).hex()}")
    descriptor = forks.open_alone(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            with naming(path):
                write_to(descriptor, content)
                _sync(os.fsync, descriptor)
        finally:
            forks.close(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    return path


def write_to(descriptor: int, content: bytes) -> None:
    """Write all of it; on a disk that fills up `write(2)` takes a part without a word, and only then says so."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def replace(path: str | Path, content: bytes) -> None:
    """Put `content` in the place of whatever has that name, durably. On an error the old file is unchanged."""
    folder = os.path.dirname(path)
    temporary = write_temporary(folder, content)
    try:
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_dir(folder)


def replace_own(path: str | Path, content: bytes) -> None:
    """Do the same for a name that is tapfs's own: a folder that somebody made there is set aside as `.rejected-<n>`.

    It must not keep an operation from moving (law 10).
    """
    try:
        replace(path, content)
    except IsADirectoryError:
        set_aside(path, path)
        replace(path, content)


def create(path: str | Path, content: bytes) -> None:
    """Give `content` that name, durably, if the name is free.

    Raises:
        FileExistsError: it is not; what is there is unchanged.
    """
    folder = os.path.dirname(path)
    temporary = write_temporary(folder, content)
    try:
        os.link(temporary, path)
    finally:
        with suppress(OSError):  # it would be a leftover; what counts is whether the name was given
            os.unlink(temporary)
    sync_dir(folder)


def append_line(path: str | Path, line: bytes) -> None:
    """Add one line at the end of a file, durably; a torn last line of a writer that died is closed first."""
    is_new = not exists(path)
    descriptor = os.open(
        path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE
    )
    try:
        with naming(path):
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NotAFile(errno.EINVAL, "it is not a regular file", str(path))
            size = status.st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            write_to(descriptor, (b"\n" if torn else b"") + line + b"\n")
            _sync(os.fdatasync, descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_dir(os.path.dirname(path))


def read_tail(path: str | Path, size: int) -> bytes:
    """Return at most the last `size` bytes of a regular file; none if there is no such file.

    Raises:
        OSError: it is there, and cannot be read: an end that is not seen is not an end that is empty.
    """
    try:
        descriptor = open_to_read(path)
    except (FileNotFoundError, NotAFile):
        return b""
    try:
        with naming(path):
            return os.pread(descriptor, size, max(0, os.fstat(descriptor).st_size - size))
    finally:
        os.close(descriptor)


def make_dir(path: str | Path) -> bool:
    """Make a folder, durably, if it is not there. Returns whether it was made."""
    try:
        os.mkdir(path, DIR_MODE)
    except FileExistsError:
        return False
    sync_dir(os.path.dirname(os.path.abspath(path)))
    return True


def make_dirs(path: Path, below: Path) -> None:
    """Make a folder and those above it, where they are missing, durably, each with the folders' permissions.

    Raises:
        FileNotFoundError: `below`, which must be there, is not: it is never made, so what was removed stays removed.
    """
    if path != below and not path.is_dir():
        make_dirs(path.parent, below)
        make_dir(path)


def set_aside(path: str | Path, named: str | Path) -> str:
    """Rename what is no record to `<named>.rejected-<n>`, the first that is free; returns its last part."""
    number = 1
    while exists(f"{named}.rejected-{number}"):
        number += 1
    os.rename(path, f"{named}.rejected-{number}")
    return f"{os.path.basename(named)}.rejected-{number}"


def put_aside(path: Path, target: Path) -> None:
    """Rename a file, if it is there, to a place below its own folder, durably; folders on the way are made."""
    if not exists(path):
        return
    make_dirs(target.parent, path.parent)
    path.rename(target)
    sync_dir(target.parent)
    sync_dir(path.parent)


def remove(path: str | Path) -> bool:
    """Remove a file if it is there. Returns whether it was. Not synced: only for what reconcile removes again."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
