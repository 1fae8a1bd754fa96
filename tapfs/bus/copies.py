"""Many files at once, in a folder that nobody looks at yet: a fork begins with what thousands of steps have brought.

All are written, then all are synced: a sync after each would have the disk write its own books as many times. Which
of them are whole does not matter before the folder gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tapfs.bus import files, forks


def write_all(folder: Path, items: Iterable[tuple[str, bytes]]) -> None:
    """Write new files, durably, each with the folders on its way.

    Args:
        folder: one that only the caller knows.
        items: paths below it, and what stands in each.
    """
    made: list[Path] = []
    for name, content in items:
        target = folder / name
        files.make_dirs(target.parent, folder)
        _write(target, content)
        made.append(target)
    for target in made:
        files.sync_file(target)
    for parent in sorted({target.parent for target in made}):
        files.sync_dir(parent)


def _write(path: Path, content: bytes) -> None:
    descriptor = forks.open_alone(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, files.FILE_MODE)
    try:
        with files.naming(path):
            files.write_to(descriptor, content)
    finally:
        forks.close(descriptor)
