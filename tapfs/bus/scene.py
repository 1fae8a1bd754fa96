"""What a check looks at: which kind of thing stands under a name, what is left over, who may write there.

Nothing is opened before it is known to be a regular file, so a FIFO's other end notices nothing. Writes nothing.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TypeVar

from tapfs.bus import files
from tapfs.bus.findings import Findings, Remedy
from tapfs.bus.layout import ID
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan
from tapfs.bus.records import LARGE, Record, Run
from tapfs.errors import RecordInvalid

#: Seconds for which a file that is being written is left alone: writing one takes milliseconds.
LEFTOVER_AFTER_S = 600.0
#: A temporary file's name as `files.write_temporary` makes it.
_TEMPORARY = re.compile(re.escape(files.TEMPORARY_PREFIX) + r"([0-9]+)-[0-9]+-[0-9a-f]{8}")
_NEW = ".new-"
#: What a start that died may have made so far.
_PARTS_OF_NEW = frozenset({"operation.json", "workflow.json", "run.json", "state.json", "journal.jsonl"})
_FOLDERS_OF_NEW = frozenset({"steps", "claims"})

Kind = TypeVar("Kind", bound=Record)


class Thing(Enum):
    """What stands under a name; the value is how it is called."""

    NOTHING = "missing"
    FILE = "a file"
    FOLDER = "a folder"
    LINK = "a symbolic link"
    OTHER = "no regular file"


def thing_at(path: str | Path) -> Thing:
    """Say what has that name, without opening it; raises OSError where that cannot be told."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Thing.NOTHING
    if stat.S_ISREG(mode):
        return Thing.FILE
    if stat.S_ISDIR(mode):
        return Thing.FOLDER
    return Thing.LINK if stat.S_ISLNK(mode) else Thing.OTHER


def read_record(kind: type[Kind], path: Path, limit: int = LARGE) -> Kind:
    """Read a record; raises as `Record.read` does, and never opens what is no regular file."""
    thing = thing_at(path)
    if thing not in (Thing.FILE, Thing.NOTHING):
        raise RecordInvalid(str(path), (f"it is {thing.value}",))
    return kind.read(path, limit)


def is_too_large(path: Path) -> bool:
    """Say whether it is a regular file of more bytes than tapfs reads: then what is in it is not known."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > LARGE


class Scene:
    """One operation while it is looked at.

    Attributes:
        operation, layout: the operation, and where its files are.
        found: what was found so far.
        only: the one path that matters, when something is looked at again; None for all.
        plan, run: as far as they could be read.
    """

    def __init__(self, operation: Operation, only: Path | None = None) -> None:
        self.operation = operation
        self.layout = operation.layout
        self.found = Findings(operation.id)
        self.only = only
        self.plan: Plan | None = None
        self.run: Run | None = None

    def is_meant(self, path: Path) -> bool:
        """Say whether that path is to be looked at."""
        return self.only in (None, path)


def entries_below(folder: Path, ours: frozenset[str]) -> Iterator[tuple[Path, str]]:
    """Everything below a folder with its path from there; only real folders that are `ours` are gone into."""
    waiting = [""]
    while waiting:
        base = waiting.pop()
        try:
            with os.scandir(folder / base) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            name = f"{base}/{entry.name}" if base else entry.name
            if name in ours and entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                yield folder / name, name


def parents_of(names: Iterator[str]) -> frozenset[str]:
    """The folders on the way to these paths: `0002` for `0002/0017`."""
    return frozenset(str(parent) for name in names if "/" in name for parent in list(Path(name).parents)[:-1])


def tell_stranger(found: Findings, path: Path) -> None:
    """Note what tapfs does not know: a leftover of a process that died, or somebody's own."""
    if not is_leftover_name(path.name):
        found.note(path, "tapfs knows no such file", "it does no harm")
    elif is_leftover(path):
        text = "it was left by a process that died while writing"
        found.note(path, text, "it is removed: nobody can need it", Remedy.REMOVE)
    else:
        text = "it looks like what is being written at this moment"
        found.note(path, text, "if it stays, it can be removed: its writer has died")


def is_leftover_name(name: str) -> bool:
    """Say whether it is called as tapfs calls what it has not finished."""
    return _TEMPORARY.fullmatch(name) is not None or is_new(name)


def is_new(name: str) -> bool:
    """Say whether it is called as an operation that is being made."""
    return name.startswith(_NEW) and ID.fullmatch(name.removeprefix(_NEW)) is not None


def is_leftover(path: Path) -> bool:
    """Say whether it is tapfs's own, of old, and of a process that is gone; of another host's, age must do."""
    made_by = _TEMPORARY.fullmatch(path.name)
    if made_by is not None and _is_alive(int(made_by[1])):
        return False
    try:
        thing = thing_at(path)
        inside = _inside(path) if thing is Thing.FOLDER else []
        if inside is None or thing not in (Thing.FILE, Thing.FOLDER):
            return False
        return all(_age_s(one) >= LEFTOVER_AFTER_S for one in (path, *inside))
    except OSError:
        return False


def _inside(folder: Path) -> list[Path] | None:
    """What is in an operation's folder that was not finished; None where something in it is not tapfs's."""
    found = []
    for path, name in entries_below(folder, _FOLDERS_OF_NEW):
        is_ours = name in _PARTS_OF_NEW or _TEMPORARY.fullmatch(path.name) is not None
        if not is_ours or thing_at(path) is not Thing.FILE:
            return None
        found.append(path)
    return found


def _age_s(path: Path) -> float:
    """Seconds since it was written."""
    return time.time() - os.lstat(path).st_mtime


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def look_at_permissions(found: Findings, path: Path, *, is_over: bool = False) -> None:
    """Tell who may not get at it and should, and who may and perhaps should not. Nothing changes these but people.

    Args:
        found: where to tell.
        path: a file or folder of tapfs's.
        is_over: nothing is written there any more, so that it may well be read-only: a copy, an archive.
    """
    with suppress(OSError):
        status = os.lstat(path)
        mode, is_folder = status.st_mode, stat.S_ISDIR(status.st_mode)
        if not is_folder and not stat.S_ISREG(mode):
            return
        needed = stat.S_IRUSR | (stat.S_IXUSR if is_folder else 0)
        if mode & needed != needed:
            found.fault(path, f"its owner may not read it (mode {mode & 0o7777:04o})", f"chmod u+{_wanted(is_folder)}")
        elif not mode & stat.S_IWUSR and (is_folder or path.name == "state.json"):
            tell = found.note if is_over or not is_folder else found.fault
            tell(path, f"its owner may not write it (mode {mode & 0o7777:04o})", "chmod u+w, unless that is meant")
        if mode & stat.S_IWOTH:
            text = f"everybody on this machine may write it (mode {mode & 0o7777:04o})"
            found.note(path, text, "chmod o-w, unless that is meant")


def _wanted(is_folder: bool) -> str:
    return "rwx" if is_folder else "rw"
