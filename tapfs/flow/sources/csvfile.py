"""A CSV file as a source: rows in chunks, with a cursor that says at which byte to go on.

Owns the file: opening it without hanging, telling whether it changed, and what is said when it cannot be read. How
bytes become records is `records`' matter.

Invariants:
    The rows are those of `csv.reader(open(path, newline="", encoding="utf-8-sig"))` without its empty ones, from
    whichever cursor they are read.
    A cursor carries a checksum of every byte before it, so a file that was written to is gone on with only if what
    was read of it is still the same.

Not promised: that a change is seen which leaves size and modification time as they were.

The cursor, as it reaches disk; `row` is the last record handed out, and the header is row 1:

    {"offset": 1048613, "row": 35021, "crc32": 2774206713}
"""

from __future__ import annotations

import codecs
import errno
import os
import shlex
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import BinaryIO

from tapfs.flow.sources.records import BadRecord, Dialect, take_records
from tapfs.flow.sources.source import Json, Source, SourceChanged, SourceError, check_same

#: How much is read at a time, in bytes. Beside a plain loop over people.csv (1.00; medians of 21 pairs in one run, two
#: cores): 8 KiB 1.04, 12 KiB 1.04, 16 KiB 1.05, 24 KiB 1.24, 64 KiB 1.29, 1 MiB 2.23.
CHUNK_BYTES = 12 * 1024

_BOM = codecs.BOM_UTF8

#: How much is read at a time to compute a checksum anew, in bytes.
_CHECK_BYTES = 1024 * 1024

_START_ANEW = "put the old file back and 'tapfs resume', or start anew"

_HINTS = {
    errno.ENOENT: "see that the path is right, seen from the directory the worker runs in",
    errno.EACCES: "let the worker's user read the file and enter the folders above it",
}


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two records.

    Attributes:
        offset: in bytes from the start of the file.
        row: the record before it, counted from 1; 0 at the start.
        crc32: checksum of every byte before it.
    """

    offset: int = 0
    row: int = 0
    crc32: int = 0

    def behind(self, data: bytes, rows: int) -> Position:
        """Return the position behind some bytes that follow this one and hold so many records."""
        return Position(self.offset + len(data), self.row + rows, zlib.crc32(data, self.crc32))

    @classmethod
    def from_cursor(cls, cursor: Json) -> Position | None:
        """Return the position a cursor stands for, the start for None; None if it is no cursor of a CSV file."""
        if cursor is None:
            return cls()
        names = {"offset", "row", "crc32"}
        if not isinstance(cursor, dict) or cursor.keys() != names:
            return None
        numbers = {name: value for name, value in cursor.items() if type(value) is int and value >= 0}
        return cls(**numbers) if numbers.keys() == names and numbers["row"] else None


class CsvFile(Source[list[list[str]]]):
    """Rows of a CSV file, without its header, as chunks of lists of strings.

    Blank lines are left out and ragged rows are handed on as they are. The disk is not touched before a method or
    `columns` is used; `verify` finds out at once whether the file can be read.

    Args:
        path: the file, kept as given; a symbolic link is followed.
        encoding: any in which ASCII is ASCII, so not UTF-16. With UTF-8 a byte order mark is skipped.
        delimiter: what stands between fields, one character.
        quotechar: what stands around a field that holds a delimiter, a line end or a quote, one character.
        chunk_bytes: how much is read at a time, in bytes; a chunk holds about as much, more if one record does.

    Raises:
        SourceError: encoding, delimiter, quotechar or chunk_bytes cannot be used.
    """

    unit = "bytes"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encoding: str = "utf-8",
        delimiter: str = ",",
        quotechar: str = '"',
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.path = os.fspath(path)
        self.chunk_bytes = chunk_bytes
        self.dialect = Dialect(encoding, delimiter, quotechar).normalized()
        if chunk_bytes < 1:
            raise self._error(f"chunk_bytes is {chunk_bytes}", hint="give at least 1")
        if fault := self.dialect.fault():
            raise self._error(fault, hint="see the arguments of tapfs.flow.sources.CsvFile")

    @cached_property
    def columns(self) -> list[str]:
        """The header's names, read when first asked for; [] for an empty file.

        Raises:
            SourceError: the file cannot be opened, or its header cannot be read.
        """
        with self._open() as file:
            return next((rows[0] for rows, _ in self._blocks(file, Position()) if rows), [])

    def verify(self) -> None:
        """Make sure that the file is there, is a regular file, may be read, and that its header is readable.

        Raises:
            SourceError: it is not; the message says why.
        """
        self.__dict__.pop("columns", None)
        _ = self.columns

    def identity(self) -> dict[str, Json]:
        """Return path, size in bytes, time of modification in nanoseconds, and how the file is read."""
        with self._open() as file:
            now = os.fstat(file.fileno())
        return {"path": self.path, "size": now.st_size, "mtime_ns": now.st_mtime_ns, **self._manner}

    def total(self) -> int:
        """Return the file's size in bytes."""
        with self._open() as file:
            return os.fstat(file.fileno()).st_size

    def read(self, cursor: Json) -> Iterator[tuple[list[list[str]], Json, int]]:
        """Hand out the rows behind a cursor; every chunk has at least one.

        The file is open while this runs. A file that is replaced meanwhile (by rename) is read to its old end.

        Raises:
            SourceError: it cannot be opened, or a row cannot be read; the rows before that row were handed out.
            SourceChanged: it shrank, grew, or was written over where it had already been read.
        """
        start = self._position(cursor)
        is_header_next = start.row == 0
        with self._open() as file:
            for rows, behind in self._blocks(file, start):
                if is_header_next and rows:
                    del rows[0]
                    is_header_next = False
                if rows:
                    yield rows, {"offset": behind.offset, "row": behind.row, "crc32": behind.crc32}, behind.offset

    def check(self, identity: dict[str, Json], cursor: Json) -> None:
        """Make sure that what was read up to the cursor is what is there now.

        Reads the file up to the cursor if it was touched or is another file of the same size.

        Raises:
            SourceChanged: the size, the bytes before the cursor, or the manner of reading differ.
            SourceError: the file cannot be opened.
        """
        with self._open() as file:
            at = self._position(cursor)
            if at.offset == 0:
                return
            check_same({name: identity.get(name) for name in self._manner}, self._manner)
            then_size, then_ns = identity.get("size"), identity.get("mtime_ns")
            if not isinstance(then_size, int) or not isinstance(then_ns, int):
                raise self._error("the checkpoint does not say its size and time of modification", hint=_START_ANEW)
            self._check_unchanged(file, at, then_size, then_ns, is_other=identity.get("path") != self.path)

    @property
    def _manner(self) -> dict[str, Json]:
        """How the file is read, as far as the rows depend on it."""
        return {name: getattr(self.dialect, name) for name in ("encoding", "delimiter", "quotechar")}

    def _blocks(self, file: BinaryIO, at: Position) -> Iterator[tuple[list[list[str]], Position]]:
        """Read on from a position: the records of each block, header and all, and the position behind them."""
        opened = os.fstat(file.fileno())
        if at.offset == 0 and self.dialect.encoding == "utf-8" and file.read(len(_BOM)) == _BOM:
            at = at.behind(_BOM, 0)
        file.seek(at.offset)
        buffer = b""
        while at.offset < opened.st_size:
            # A record that did not fit asks for as much again, so that a huge one is not parsed once a block.
            left = opened.st_size - at.offset - len(buffer)
            buffer += self._read_exactly(file, min(max(self.chunk_bytes, len(buffer)), left), at)
            is_last = at.offset + len(buffer) == opened.st_size
            if is_last:
                self._check_unchanged(file, at, opened.st_size, opened.st_mtime_ns)
            try:
                rows, length = take_records(buffer, self.dialect, is_last=is_last)
            except BadRecord as error:
                raise self._bad_row(error, at) from error
            at = at.behind(buffer[:length], len(rows))
            buffer = buffer[length:]
            yield rows, at

    def _read_exactly(self, file: BinaryIO, size: int, at: Position) -> bytes:
        try:
            fresh = file.read(size)
        except OSError as error:
            raise self._error(f"{error.strerror} behind row {at.row}", at=at) from error
        if len(fresh) < size:
            raise self._changed(f"it was cut to {os.fstat(file.fileno()).st_size:,} bytes", at)
        return fresh

    def _check_unchanged(
        self, file: BinaryIO, at: Position, then_size: int, then_ns: int, *, is_other: bool = False
    ) -> None:
        """Compare the open file with its size and time at another moment; leaves its reading position alone."""
        now = os.fstat(file.fileno())
        if now.st_size == then_size and now.st_mtime_ns == then_ns and not is_other:
            return
        times = f"modified {_utc(now.st_mtime_ns)}, was {_utc(then_ns)}"
        if now.st_size != then_size:
            raise self._changed(f"it has {now.st_size:,} bytes, it had {then_size:,} ({times})", at)
        if _crc32(file, at.offset) != at.crc32:
            raise self._changed(f"its first {at.offset:,} bytes are not those that were read ({times})", at)

    def _open(self) -> BinaryIO:
        """Open the file for reading; never waits, as a plain open of a FIFO would."""
        try:
            file_descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, "see to the path, then start anew")
            raise self._error(error.strerror or str(error), hint=hint) from error
        except ValueError as error:
            raise self._error(str(error), hint="a path cannot hold a NUL") from error
        mode = os.fstat(file_descriptor).st_mode
        if stat.S_ISREG(mode):
            return open(file_descriptor, "rb")
        os.close(file_descriptor)
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise self._error(f"it is {kind}", hint="give a file; what comes from a pipe or device, save to one first")

    def _position(self, cursor: Json) -> Position:
        at = Position.from_cursor(cursor)
        if at is None:
            raise self._error(f"{cursor!r} is no cursor of a CSV file", hint=_START_ANEW)
        return at

    def _bad_row(self, error: BadRecord, at: Position) -> SourceError:
        place = replace(at, offset=at.offset + error.position, row=at.row + 1)
        if not error.bad:
            hint = "often a quote that is never closed; if the field is meant, raise csv.field_size_limit() in your app"
            return self._error(f"row {place.row}, at byte {place.offset}: {error.reason}", at=place, hint=hint)
        reason = f"row {place.row} is not {self.dialect.encoding}: byte {place.offset} is 0x{error.bad.hex()}"
        convert = f"iconv -f LATIN1 -t UTF-8 {shlex.quote(self.path)} > converted.csv"
        hint = f"pass the file's own encoding=, or convert it, as with: {convert}"
        return self._error(f"{reason} ({error.reason})", at=place, hint=hint)

    def _error(self, reason: str, *, hint: str | None = None, at: Position | None = None) -> SourceError:
        row, offset = (at.row, at.offset) if at else (None, None)
        return SourceError(f"cannot read {self.path!r}: {reason}", hint=hint, path=self.path, row=row, offset=offset)

    def _changed(self, what: str, at: Position) -> SourceChanged:
        since = f"since row {at.row} was read" if at.row else "while it was read"
        message = f"cannot go on with {self.path!r}: it changed {since}: {what}"
        return SourceChanged(message, hint=_START_ANEW, path=self.path, row=at.row, offset=at.offset)


def _crc32(file: BinaryIO, size: int) -> int:
    """Return the checksum of the first so many bytes."""
    crc32 = offset = 0
    while offset < size and (data := os.pread(file.fileno(), min(_CHECK_BYTES, size - offset), offset)):
        crc32 = zlib.crc32(data, crc32)
        offset += len(data)
    return crc32


def _utc(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
