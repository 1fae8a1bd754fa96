"""The ways in which editors and people write a file that is there."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path


def in_place(path: Path, text: str) -> None:
    """As `echo >` and nano do: the same inode, emptied and written."""
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    """As VS Code and most programs do: a new file takes the name."""
    fresh = path.with_name("4913")
    fresh.write_text(text)
    os.rename(fresh, path)


def by_sed(path: Path, text: str) -> None:
    """`sed -i`: it writes a new file and renames."""
    script = path.parent.parent / "script.sed"
    script.write_text("1{r /dev/stdin\nd}\n2,$d\n")
    subprocess.run(["sed", "-i", "-f", script, path], input=text.encode(), check=True)
    script.unlink()


def by_cp(path: Path, text: str) -> None:
    """`cp`, and `scp` at the other end: the same inode, written in place."""
    source = path.parent.parent / "edited.json"
    source.write_text(text)
    subprocess.run(["cp", source, path], check=True)
    source.unlink()


def by_mv(path: Path, text: str) -> None:
    """`mv` of a file from elsewhere, with the time of long ago that it had there (as `cp -p` and rsync keep it)."""
    source = path.parent.parent / "edited.json"
    source.write_text(text)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    subprocess.run(["mv", source, path], check=True)


def as_vim(path: Path, text: str) -> None:
    """Vim with `backupcopy=no`: the old file is renamed away, a new one created, the old one removed."""
    backup = path.with_name(path.name + "~")
    os.rename(path, backup)
    path.write_text(text)
    backup.unlink()


EDITORS: dict[str, Callable[[Path, str], None]] = {
    "in place": in_place,
    "by rename": by_rename,
    "sed -i": by_sed,
    "cp": by_cp,
    "mv": by_mv,
    "vim": as_vim,
}
