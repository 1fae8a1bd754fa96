"""`state.json`: the file that people edit and tapfs rewrites, so that no edit is ever lost.

People take no lock and use any editor: in place, by rename, by copying. tapfs therefore never overwrites the file. It
swaps a new one in (`exchange`), looks at what came out, and keeps that under a hidden name for a moment, because an
editor may have had it open and write into it after the swap. The hidden name carries the digests of the two versions
that are nobody's edit, the one put in and the one read before; any other content is an edit, whoever finds it, also
after a crash between any two of these calls. It carries the stamp (inode and time) of the file put in, too: as long as
`state.json` has that stamp and content it is nobody's edit either, and does not speak against a displaced one.

A text that is no valid state is an edit in the making while it is young or open for writing; after that it is set aside
as `state.json.rejected-<n>`.

All of it runs under the operation's lock, except `read`.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from tapfs.bus import files, swap
from tapfs.bus.fields import Faulty
from tapfs.bus.layout import DISPLACED_PREFIX, OperationLayout
from tapfs.bus.records import SMALL, StateView

#: Seconds that an invalid text is left alone: its editor may be between truncating and writing.
SETTLE_S = 0.1
#: Seconds that an invalid text which somebody has open is left alone.
OPEN_SETTLE_S = 5.0
#: Seconds that a displaced file is kept where the system cannot tell whether somebody has it open.
BLIND_KEEP_S = 1.0


@dataclass(frozen=True)
class Reading:
    """What was found under a name.

    Attributes:
        content: its bytes; None for nothing and for what cannot be read as a file.
        view: the record, if it is a valid one.
        faults: what is wrong with it otherwise; empty for nothing there.
        changed_at: when it was last written or got its name, in seconds.
        stamp: what tells this file from another under the same name.
        is_settled: whether it is what its editor means; a young or open invalid text is not.
        is_missing: nothing has that name.
    """

    content: bytes | None = None
    view: StateView | None = None
    faults: tuple[str, ...] = ()
    changed_at: float = 0.0
    stamp: str | None = None
    is_settled: bool = True
    is_missing: bool = False


@dataclass(frozen=True)
class Displaced:
    """An edit found in a displaced file."""

    path: str
    reading: Reading


class StateFile:
    """`state.json` of one operation."""

    def __init__(self, layout: OperationLayout) -> None:
        self._folder = str(layout.folder)
        self._path = str(layout.state)

    def read(self) -> Reading:
        """Read it as it is now; needs no lock."""
        return _read(self._path)

    def edits(self, reading: Reading, displaced: list[Displaced]) -> list[Reading]:
        """Return what may be people's, oldest first: those displaced, and `reading` unless tapfs has put it in."""
        found = [edit.reading for edit in displaced]
        if not found or not self._was_put_in(reading):
            found.append(reading)
        return sorted(found, key=lambda one: one.changed_at)

    def displaced_edits(self) -> list[Displaced]:
        """Return the settled edits in displaced files; changes nothing and needs no lock."""
        return self._look_at_displaced()[0]

    def displaced(self) -> tuple[list[Displaced], bool]:
        """Look at the displaced files; remove those that nobody can write to any more.

        Returns:
            The settled edits found in them, oldest first, and whether to look again in a moment.
        """
        edits, unedited, is_unsettled = self._look_at_displaced()
        quiet = [path for path in unedited if _is_quiet(path) and _is_unedited(path, _read(path))]
        is_pending = is_unsettled or len(quiet) < len(unedited)
        if is_pending or edits:  # an edit may still come: what shows that `state.json` is none must stay until then
            shown = _stamp_of(self._path)
            quiet = [path for path in quiet if shown not in _parts(path)]
        for path in quiet:
            files.remove(path)
        return edits, is_pending

    def _look_at_displaced(self) -> tuple[list[Displaced], list[str], bool]:
        """Return the settled edits, the files that hold nobody's edit, and whether an edit is in the making."""
        edits: list[Displaced] = []
        unedited: list[str] = []
        is_unsettled = False
        for path in self._hidden_paths():
            reading = _read(path)
            if _is_unedited(path, reading):
                unedited.append(path)
            elif reading.is_settled and not reading.is_missing:
                edits.append(Displaced(path, reading))
            else:
                is_unsettled = is_unsettled or not reading.is_missing
        edits.sort(key=lambda edit: edit.reading.changed_at)
        return edits, unedited, is_unsettled

    def _hidden_paths(self) -> list[str]:
        names = os.listdir(self._folder)
        return [os.path.join(self._folder, name) for name in names if name.startswith(DISPLACED_PREFIX)]

    def _was_put_in(self, reading: Reading) -> bool:
        """Whether tapfs has put that in. By both: a write in the same tick of the clock leaves the stamp as it was."""
        if reading.stamp is None or reading.content is None:
            return False
        marks = {reading.stamp, _digest(reading.content)}
        return any(marks <= set(_parts(path)) for path in self._hidden_paths())

    def is_watching(self) -> bool:
        """Say whether a displaced file is still kept, so that somebody must look again."""
        return any(name.startswith(DISPLACED_PREFIX) for name in os.listdir(self._folder))

    def acknowledge(self, edit: Displaced) -> str | None:
        """Note that an edit in a displaced file was taken in; a nonsense one is set aside.

        Returns:
            The name it was set aside under, or None.
        """
        if edit.reading.view is None or edit.reading.content is None:
            return self._set_aside(edit.path)
        stamps = [part for part in _parts(edit.path) if "-" in part]
        with suppress(FileNotFoundError):
            os.rename(edit.path, self._hidden(*stamps, _digest(edit.reading.content)))
        return None

    def put(self, view: StateView, seen: Reading) -> str | None:
        """Put a new view in the place of what was `seen` there.

        An edit that slipped in between is not lost: it comes out under a hidden name, where `displaced` finds it.

        Returns:
            The name under which a nonsense text was set aside, or None.
        """
        content = view.encode()
        temporary = files.write_temporary(self._folder, content)
        parts = [_stamp_of(temporary), _digest(content)]
        if seen.view is not None and seen.content is not None:
            parts.append(_digest(seen.content))  # not a nonsense text's: that is somebody's edit until it is set aside
        hidden = self._hidden(*parts)
        os.rename(temporary, hidden)
        try:
            if not swap.exchange(hidden, self._path):
                self._put_without_exchange(hidden)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.link(hidden, self._path)
            files.remove(hidden)
        files.sync_dir(self._folder)
        is_nonsense = not seen.is_missing and seen.view is None
        if is_nonsense and files.exists(hidden) and _same(_read(hidden), seen):
            return self._set_aside(hidden)
        return None

    def _put_without_exchange(self, hidden: str) -> None:
        """The same without `renameat2`: the name is free for an instant, and taken only if it still is."""
        aside = hidden + "-old"
        with suppress(FileNotFoundError):
            os.rename(self._path, aside)
        with suppress(FileExistsError):
            os.link(hidden, self._path)
        files.remove(hidden)  # first: a folder that somebody has put there cannot take the place of a file
        if files.exists(aside):
            os.rename(aside, hidden)

    def _hidden(self, *parts: str) -> str:
        return os.path.join(self._folder, f"{DISPLACED_PREFIX}{'.'.join(parts)}.{os.urandom(3).hex()}")

    def _set_aside(self, path: str) -> str:
        return files.set_aside(path, self._path)


def _read(path: str) -> Reading:
    """Read what is under that name.

    Raises:
        OSError: the system cannot read it now (an input error, too many open files). That says nothing of the text:
            an edit must not be set aside as nonsense for it.
    """
    try:
        status = os.stat(path, follow_symlinks=False)
        content = files.read_bytes(path, SMALL)
    except FileNotFoundError:
        return Reading(is_missing=True)
    except files.NotAFile as error:
        return Reading(faults=(str(error.strerror),))
    except PermissionError as error:
        return Reading(faults=(f"it cannot be read: {error.strerror}",))
    told = (status.st_ctime, _stamp(status))
    try:
        return Reading(content, StateView.decode(content, strict=True), (), *told)
    except Faulty as error:
        return Reading(content, None, error.faults, *told, is_settled=_has_settled(path, status))


def _has_settled(path: str, status: os.stat_result) -> bool:
    age = time.time() - max(status.st_mtime, status.st_ctime)
    if not stat.S_ISREG(status.st_mode) or age < 0 or age >= OPEN_SETTLE_S:
        return True
    return age >= SETTLE_S and swap.has_writer(path) is not True


def _is_quiet(path: str) -> bool:
    """Whether nobody can write to a displaced file any more: nobody has it open, and some time has passed.

    In this order: who had it open and wrote before the first look has changed the time that the second one sees. The
    caller reads the file once more.
    """
    has_writer = swap.has_writer(path)
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    age = time.time() - max(status.st_mtime, status.st_ctime)
    if 0 <= age < SETTLE_S:
        return False
    return has_writer is False or (has_writer is None and not 0 <= age < BLIND_KEEP_S)


def _same(one: Reading, other: Reading) -> bool:
    return one.content == other.content and one.faults == other.faults


def _is_unedited(path: str, reading: Reading) -> bool:
    return reading.content is not None and _digest(reading.content) in _parts(path)


def _parts(path: str) -> list[str]:
    return os.path.basename(path).split(".")


def _stamp_of(path: str) -> str:
    try:
        return _stamp(os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return ""


def _stamp(status: os.stat_result) -> str:
    """Inode and modification time, which a rename does not change; the hyphen tells it from a digest."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def _digest(content: bytes) -> str:
    import hashlib  # it loads OpenSSL: 5 ms, only for who writes

    return hashlib.blake2b(content, digest_size=8).hexdigest()
