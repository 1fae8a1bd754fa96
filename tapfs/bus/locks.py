"""Taking turns: the operation's lock, and the lock under a claim.

The operation's lock is a `filelock.FileLock` on `lock`, held for one read-decide-write and nothing longer (law 6). A
claim is a `flock(2)` on the claim file itself, which dies with its process (law 3); it is taken on the new file before
that gets its name, so nobody ever sees a claim with a holder and no lock.

Not promised: a claim's lock names a holder, it does not fence one. A frozen process keeps it; the fence is the check
of inode, epoch and attempt at commit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tapfs.bus import files, forks
from tapfs.errors import ControlUnusable, LockTimeout, OperationUnknown

if TYPE_CHECKING:
    from filelock import FileLock

#: Seconds to wait for another's short section before saying that something is wrong.
TIMEOUT_S = 10.0
#: Seconds between two tries; short, as the sections are.
POLL_S = 0.002

_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class _Replaced(Exception):
    """The lock file was removed or renamed over between opening and locking."""


class FolderLock:
    """The lock of a folder whose existence is shown by one file in it.

    `filelock` makes missing folders, so a removed operation could come back as an empty one, and a lock file that was
    deleted gives two holders: both are looked for after the lock is held. `filelock` refuses a lock that its process
    has from its parent, so a forked child makes its own.
    """

    _made: ClassVar[weakref.WeakSet[FolderLock]] = weakref.WeakSet()

    def __init__(self, folder: Path, proof: str, timeout_s: float = TIMEOUT_S) -> None:
        FolderLock._made.add(self)
        self._folder = folder
        self._path = folder / "lock"
        self._proof = folder / proof
        self._timeout_s = timeout_s

    @cached_property
    def _lock(self) -> FileLock:
        from filelock import FileLock  # 60 ms and more: only who locks pays for it

        _make_lock_file(self._path)
        return FileLock(
            self._path,
            timeout=self._timeout_s,
            poll_interval=POLL_S,
            fallback_to_soft=False,
            mode=files.FILE_MODE,
            preserve_lock_file=True,
            on_acquired=self._check_still_there,
        )

    @classmethod
    def renew_all(cls) -> None:
        """Forget the parent's locks, in a forked child."""
        for lock in list(cls._made):
            lock.__dict__.pop("_lock", None)

    def _check_still_there(self, descriptor: int) -> None:
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            raise _Replaced from None
        held = os.fstat(descriptor)
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            raise _Replaced

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; blocks for at most the time-out.

        Raises:
            OperationUnknown: the folder is gone; it is not made again.
            ControlUnusable: the file system cannot lock, or does not let us.
            LockTimeout: somebody has held it for too long.
        """
        lock = self._acquire()
        try:
            yield
        finally:
            lock.release()

    def _acquire(self) -> FileLock:
        from filelock import Timeout

        while True:
            if not files.exists(self._proof):
                raise OperationUnknown(f"'{self._folder}' is not there any more")
            # One object for taking and giving back: since Python 3.12 two threads may each make one at first use.
            lock = self._lock
            try:
                lock.acquire()
            except _Replaced:
                continue
            except Timeout:
                raise LockTimeout(
                    f"cannot lock '{self._folder}': somebody has held '{self._path}' for {self._timeout_s:g} s",
                    hint="a frozen process may hold it; nothing was changed",
                ) from None
            except OSError as error:
                if not files.exists(self._proof):
                    continue
                raise _unusable(self._path, error) from error
            try:
                if files.exists(self._proof):
                    return lock
            except OSError:
                lock.release()
                raise
            lock.release()
            self._forget_folder()

    def _forget_folder(self) -> None:
        """Take away the folder that locking a removed operation brought back."""
        with suppress(OSError):
            os.unlink(self._path)
            os.rmdir(self._folder)


class SingleHolder:
    """A lock that one process at a time holds for as long as it lives, such as the supervisor's.

    A holder that is frozen keeps it; so it gives signs of life, by which the others can tell.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _lock(self) -> FileLock:
        from filelock import FileLock

        _make_lock_file(self._path)
        return FileLock(self._path, blocking=False, fallback_to_soft=False, preserve_lock_file=True, thread_local=False)

    def take(self) -> bool:
        """Try once; says whether it is ours now. Raises `ControlUnusable` where the file system cannot lock."""
        from filelock import Timeout

        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            raise _unusable(self._path, error) from error
        return True

    @property
    def is_ours(self) -> bool:
        """Whether this process holds it."""
        return self._lock.is_locked

    def give_sign(self) -> None:
        """Show that the holder is alive."""
        os.utime(self._path)

    def sign(self) -> files.Identity | None:
        """What changes with each sign; None where there is no such file."""
        try:
            return files.identity_of(os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def give_back(self) -> None:
        """Let another have it."""
        self._lock.release()


def _make_lock_file(path: Path) -> None:
    """Make the file with tapfs's permissions, less the umask: `filelock` either ignores the umask or lets others in."""
    with suppress(OSError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path, flags, files.FILE_MODE))


def _unusable(path: Path, error: OSError) -> ControlUnusable:
    if error.errno in _NO_FLOCK:
        return ControlUnusable(
            f"cannot lock '{path}': its file system has no flock(2), without which two workers could run one step",
            hint="put the control directory on a local file system, or on NFS 4 with locking",
        )
    return ControlUnusable(f"cannot lock '{path}': {error.strerror or error}")


class ClaimLock:
    """The lock on a claim file, or a worker's card, held by this process until it releases it or dies.

    A forked child would keep the lock alive after its parent's death, so children close it at once.
    """

    _held: ClassVar[weakref.WeakSet[ClaimLock]] = weakref.WeakSet()

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor: int | None = descriptor
        self._path = path
        self._use = threading.Lock()  # one thread gives signs of life while another lets go
        ClaimLock._held.add(self)

    @classmethod
    def place(cls, path: str, content: bytes) -> ClaimLock:
        """Write a claim file, lock it, and only then give it its name, in place of the unheld one there."""
        temporary = files.write_temporary(os.path.dirname(path), content)
        try:
            descriptor = forks.open_alone(temporary, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(temporary, path)
                files.sync_dir(os.path.dirname(path))
            except BaseException:
                forks.close(descriptor)
                raise
        except OSError as error:
            files.remove(temporary)
            if error.errno in _NO_FLOCK:
                raise _unusable(Path(path), error) from error
            raise
        return cls(descriptor, path)

    def is_ours(self) -> bool:
        """Say whether the claim is still this one: not removed, and not given to another by a new file."""
        if self._descriptor is None:
            return False
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        with files.naming(self._path):
            held = os.fstat(self._descriptor)
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    @property
    def is_released(self) -> bool:
        """Whether this process has let go of it."""
        return self._descriptor is None

    def touch(self) -> None:
        """Set the file's time to now; what it is called by now does not matter."""
        with self._use:
            if self._descriptor is not None:
                os.utime(self._descriptor)

    def release(self) -> None:
        """Let go of the lock; the file stays."""
        with self._use:
            if self._descriptor is not None:
                forks.close(self._descriptor)
                self._descriptor = None

    @classmethod
    def forget_all(cls) -> None:
        """Have none of the parent's claims, in a forked child; their descriptors are closed already."""
        for claim in list(cls._held):
            claim._descriptor = None
        cls._held = weakref.WeakSet()


os.register_at_fork(after_in_child=ClaimLock.forget_all)
os.register_at_fork(after_in_child=FolderLock.renew_all)


def is_held(path: str) -> bool:
    """Say whether a living process holds the claim in that file. Takes a shared lock for an instant.

    Raises:
        OSError: that cannot be seen; which is not the same as free.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):  # nothing that could be locked
            return False
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    else:
        return False
    finally:
        os.close(descriptor)
