"""What it takes to write beside editors that take no lock: swapping two names, and seeing who has a file open.

Both may be impossible on some systems; then they say so, and nothing was changed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: str | Path, other: str | Path) -> bool:
    """Swap two names in one step (`renameat2(2)` with RENAME_EXCHANGE).

    Returns:
        False where the system or the file system cannot; then nothing was changed.

    Raises:
        FileNotFoundError: one of the two is not there; nothing was changed.
    """
    if _renameat2 is None:
        return False
    if _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _load_renameat2() -> ctypes._NamedFuncPointer | None:
    """Find the C library's `renameat2`; None where there is none (glibc before 2.28, other systems)."""
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None


_renameat2 = _load_renameat2()


def has_writer(path: str | Path) -> bool | None:
    """Say whether any process has that file open for writing; None where the system cannot tell.

    A read lease can be had only while there is no writer (`fcntl(2)`, F_SETLEASE). It is given back at once; who opens
    the file in that instant waits for it. The signal for that is set to one that is ignored by default: the default
    SIGIO would end the process.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # EWOULDBLOCK: another is looking in the same way, or a writer waits for it.
        return True if error.errno == errno.EWOULDBLOCK else None
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK) else None
    else:
        return False
    finally:
        os.close(descriptor)
