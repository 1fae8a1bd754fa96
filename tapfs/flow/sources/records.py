"""Whole CSV records out of the front of a buffer of bytes.

Owns the one question a resumable CSV reader has to answer: behind which byte does a record end? `csv.reader` itself
answers it. It is given one more, empty, line than the buffer holds; between records it makes a row `[]` of that line,
inside a quoted field it swallows it. So there is no second opinion about quotes, and the rows are those of a plain
`csv.reader` loop, whatever the file holds. Counting quotes only guesses a good place to cut.

Invariant: a buffer that begins where a record begins gives rows and a length behind which again a record begins.
"""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass, replace
from itertools import chain, takewhile

Rows = list[list[str]]

_ASCII = bytes(range(128))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How bytes are to be read as CSV; every ASCII character must be its own byte in the encoding."""

    encoding: str
    delimiter: str
    quotechar: str

    def normalized(self) -> Dialect:
        """Return the same with one name for all spellings of an encoding.

        utf-8-sig becomes utf-8: it would drop a U+FEFF from the front of every buffer, not only of the file.
        """
        try:
            name = codecs.lookup(self.encoding).name
        except LookupError:
            return self
        return replace(self, encoding="utf-8" if name == "utf-8-sig" else name)

    def fault(self) -> str | None:
        """Return why CSV cannot be read like this; None if it can."""
        marks = (self.delimiter, self.quotechar)
        if any(len(mark) != 1 for mark in marks) or len({*marks, "\r", "\n"}) < 4:
            return f"delimiter {marks[0]!r} and quotechar {marks[1]!r} must be two different characters, no line ends"
        try:
            is_ascii = _ASCII.decode(self.encoding) == _ASCII.decode("ascii")
            "".join(marks).encode(self.encoding)
        except LookupError:
            return f"there is no encoding {self.encoding!r}"
        except UnicodeError as error:
            return f"encoding {self.encoding!r} cannot be used: {error}"
        return None if is_ascii else f"encoding {self.encoding!r} cannot be used: ASCII is not itself in it"


class BadRecord(Exception):
    """The buffer's first record cannot be read.

    Attributes:
        position: where, in bytes from the start of the buffer.
        bad: the bytes that are none of the encoding; b"" when csv refuses the record.
        reason: what codec or csv said.
    """

    def __init__(self, position: int, bad: bytes, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        self.bad = bad
        self.reason = reason


def take_records(buffer: bytes, dialect: Dialect, *, is_last: bool) -> tuple[Rows, int]:
    """Read the whole records at the front of a buffer.

    Args:
        buffer: bytes that begin where a record begins; not empty.
        dialect: how to read them.
        is_last: nothing follows the buffer, so its end ends the last record.

    Returns:
        The rows, without those of blank lines, and how many bytes they were made of. Records in front of a bad one
        are returned first; 0 bytes mean that the first record needs more than the buffer holds.

    Raises:
        BadRecord: the first record cannot be read, and more bytes would not change that.
    """
    cut = len(buffer) if is_last else _likely_cut(buffer, dialect.quotechar.encode(dialect.encoding))
    if not cut:
        return _take_line_by_line(buffer, dialect, is_last=False)
    try:
        lines = io.StringIO(buffer[:cut].decode(dialect.encoding), newline="")
        rows = list(csv.reader(chain(lines, ("",)), delimiter=dialect.delimiter, quotechar=dialect.quotechar))
    except (UnicodeDecodeError, csv.Error):
        return _take_line_by_line(buffer, dialect, is_last=is_last)
    if not rows[-1]:
        rows.pop()
    elif not is_last:
        return _take_line_by_line(buffer, dialect, is_last=False)
    return (rows if all(rows) else _without_blank(rows)), cut


def _likely_cut(buffer: bytes, quote: bytes) -> int:
    """Return the last line end with an even number of quotes before it; 0 if there is none."""
    newline = b"\n" if b"\n" in buffer else b"\r"
    cut = buffer.rfind(newline, 0, _safe_stop(buffer)) + 1
    quotes = buffer.count(quote, 0, cut)
    while quotes % 2:
        previous = buffer.rfind(newline, 0, cut - 1) + 1
        quotes -= buffer.count(quote, previous, cut)
        cut = previous
    return cut


def _safe_stop(buffer: bytes) -> int:
    """Return the buffer's length without a final carriage return, which may be the first half of a line end."""
    return len(buffer) - buffer.endswith(b"\r")


def _take_line_by_line(buffer: bytes, dialect: Dialect, *, is_last: bool) -> tuple[Rows, int]:
    """Do what `take_records` does where a cut was guessed wrong or something is bad: count csv's lines per record.

    With `is_last` something is bad, or there would have been nothing to guess; so no record is left open at the end.
    """
    stop = _safe_stop(buffer)
    end = len(buffer) if is_last else max(buffer.rfind(b"\n", 0, stop), buffer.rfind(b"\r", 0, stop)) + 1
    # Not str.splitlines: that also splits at U+2028, form feed and others. Of bytes it splits at \n, \r and \r\n only.
    lines = buffer[:end].splitlines(keepends=True)
    # The unfinished rest is read along, for its errors only: so a file without line ends is not read into memory whole.
    rest = codecs.getincrementaldecoder(dialect.encoding)()
    texts = chain((line.decode(dialect.encoding) for line in lines), (rest.decode(part) for part in (buffer[end:],)))
    reader = csv.reader(texts, delimiter=dialect.delimiter, quotechar=dialect.quotechar)
    rows: Rows = []
    taken = 0
    try:
        for row in takewhile(lambda _: reader.line_num <= len(lines), reader):
            rows.append(row)
            taken = reader.line_num
    except (UnicodeDecodeError, csv.Error) as error:
        if not taken:
            raise _bad_record(error, sum(map(len, lines[: reader.line_num]))) from error
    return _without_blank(rows), sum(map(len, lines[:taken]))


def _bad_record(error: UnicodeDecodeError | csv.Error, line_start: int) -> BadRecord:
    if isinstance(error, UnicodeDecodeError):
        return BadRecord(line_start + error.start, error.object[error.start : error.end], error.reason)
    return BadRecord(0, b"", str(error))


def _without_blank(rows: Rows) -> Rows:
    """Leave out the rows of blank lines, as csv.DictReader does."""
    return [row for row in rows if row]
