"""Single files: written whole, read with care, and their errors told to people.

A file appears under its name complete or not at all. It is not synced: law 1 allows the broker to lose anything.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapfs.flow.broker.layout import FILE_MODE, Layout, make_dir

#: Largest file that is read or written, in bytes.
MAX_BYTES = 16 * 1024 * 1024

#: How often a folder that is deleted again and again under our hands is made again before it is an error.
ATTEMPTS = 20


class BrokerError(OSError):
    """The broker's folder can not be used; `errno` and `filename` say why and where. What was asked for is not done.

    kombu counts it as a connection error: it retries, and then raises `kombu.exceptions.OperationalError`.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class Unreadable(Exception):
    """A file is not one of ours; the text is the reason. It was not touched."""


@contextmanager
def explained(action: str, path: Path, outcome: str) -> Iterator[None]:
    """Turn an error of the operating system into a `BrokerError` that says what, where, why, and what is now true."""
    try:
        yield
    except BrokerError:
        raise
    except OSError as exc:
        number = exc.errno or errno.EIO
        text = f"cannot {action} {str(path)!r}: {os.strerror(number)}; {outcome}"
        raise BrokerError(number, text, str(path)) from exc


def write_whole(layout: Layout, path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it into place; folders that are missing are made."""
    tmp_path = layout.tmp_dir / f"{os.getpid()}-{os.urandom(6).hex()}"
    try:
        for attempt in range(ATTEMPTS):
            try:
                descriptor = os.open(tmp_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
                with open(descriptor, "wb") as file:
                    file.write(content)
                os.rename(tmp_path, path)
                return
            except FileNotFoundError:
                if attempt == ATTEMPTS - 1:
                    raise
                make_dir(layout.tmp_dir)
                make_dir(path.parent)
    except OSError:
        with suppress(OSError):
            tmp_path.unlink()
        raise


def read_whole(path: Path) -> bytes:
    """Return the content of a regular file of bounded size.

    Raises:
        Unreadable: it is something else, or too large.
        FileNotFoundError: it is not there.
    """
    try:
        # O_NONBLOCK: a FIFO must not hang us. O_NOFOLLOW: a link may point at what is not ours to deliver.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise Unreadable(f"it cannot be opened: {os.strerror(exc.errno or errno.EIO)}") from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable("it is not a regular file")
        content = _read_up_to(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise Unreadable(f"it is larger than {MAX_BYTES} bytes")
    return content


def _read_up_to(descriptor: int, limit: int) -> bytes:
    blocks: list[bytes] = []
    while limit > 0 and (block := os.read(descriptor, min(limit, 1 << 20))):
        blocks.append(block)
        limit -= len(block)
    return b"".join(blocks)


def list_dir(folder: Path) -> list[str]:
    """Return the names in a folder; none when it is not there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.listdir(folder)
    return []


def remove(path: Path) -> bool:
    """Remove a file, link or whole folder; return whether it is gone by us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
