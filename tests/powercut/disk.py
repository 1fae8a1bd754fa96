"""A file system in a file, whose power can be cut.

The cut is the shutdown ioctl of ext4 and xfs: from that instant nothing reaches the disk and every call gets EIO. What
the journal had not written is lost at the next mount. It does not lose what the disk's own cache would: that is
written by the same flushes that fsync waits for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path

#: FS_IOC_SHUTDOWN of <linux/fs.h>, the same number as XFS_IOC_GOINGDOWN.
_SHUTDOWN = 0x8004587D
_CLONE_NEWNS = 0x00020000
#: xfs takes no smaller one; the file is sparse.
_SIZE = 320 * 1024 * 1024


class Cut(IntEnum):
    """How the power goes; the kernel's numbers."""

    #: Everything is written first: only the processes are cut off.
    FLUSHED = 0
    #: The journal is written, file contents are not: shows a name that points at missing bytes.
    JOURNAL_FLUSHED = 1
    #: Nothing more is written: shows whatever was not synced.
    HARD = 2


class DiskUnusable(Exception):
    """This machine cannot do it; the text says what."""


class Disk:
    """A file system of one kind in a file in `folder`."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.point = folder / "disk"
        self._image = folder / f"{kind}.img"

    @staticmethod
    def enter_private_namespace() -> None:
        """Make all further mounts this process's and its children's own; they go away with the last of them."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise DiskUnusable(f"have a mount namespace of its own: {os.strerror(ctypes.get_errno())}")
        _run("mount", "--make-rprivate", "/")

    def make(self) -> None:
        """Make the file system, and find out whether its power can be cut."""
        self.point.mkdir()
        # An ordinary login's path may lack the folders in which these programs are.
        mkfs = shutil.which(f"mkfs.{self.kind}", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin")))
        if mkfs is None:
            raise DiskUnusable(f"make a file system: there is no mkfs.{self.kind}")
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        _run(mkfs, "-q", str(self._image))
        self.mount()
        try:
            cut(self.point, Cut.HARD)
        except OSError as error:
            raise DiskUnusable(f"shut {self.kind} down: {error.strerror}") from None
        finally:
            self.unmount()

    def mount(self) -> None:
        """Mount it; the journal is replayed. The loop device goes with the mount (util-linux sets autoclear)."""
        _run("mount", "-t", self.kind, "-o", "loop", str(self._image), str(self.point))

    def unmount(self) -> None:
        """Unmount it; nobody may use it any more."""
        _run("umount", str(self.point))

    def close(self) -> None:
        """Take it away, whoever uses it."""
        if os.path.ismount(self.point):
            subprocess.run(["umount", "--lazy", self.point], check=False)
        self._image.unlink(missing_ok=True)


def cut(point: Path, how: Cut) -> None:
    """Cut the power of the file system mounted there."""
    descriptor = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", how))
    finally:
        os.close(descriptor)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DiskUnusable(f"run {command[0]}: it is not there") from None
    if done.returncode:
        raise DiskUnusable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
