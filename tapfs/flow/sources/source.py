"""What a source is: data that is handed out chunk by chunk, each chunk with the cursor behind it.

Owns the protocol, its errors, and the comparison most sources need to tell whether a checkpoint still fits.

Invariant of every source: the chunks of `read(cursor)` are those that followed when that cursor was handed out. So
whoever saves cursor and value together, after the work, skips nothing and counts nothing twice.

Not promised: that two chunks are of one size, or that chunks are cut at the same places when a run is resumed. Only
their concatenation is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias, TypeVar

from tapfs.errors import TapfsError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

Chunk_co = TypeVar("Chunk_co", covariant=True)


class SourceError(TapfsError):
    """A source cannot be read, or not further; chunks handed out before stay good, and nothing was changed.

    Attributes:
        path: the file, as it was given; None if the source is no file.
        row: the record at which reading ended, counted from 1; None if no record is to blame.
        offset: where in the file, in bytes from its start; None if no place is to blame.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        path: str | None = None,
        row: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.row = row
        self.offset = offset


class SourceChanged(SourceError):
    """The data is no longer what a checkpoint was made of; the checkpoint stays as it is, and nothing was changed."""


class Source(Protocol[Chunk_co]):
    """Data with a cursor. Inherit from it to get `check`, or write all five names.

    A source of lines, resumable, in ten lines:

        class Lines(Source[list[str]]):
            unit = "lines"

            def __init__(self, lines: list[str]) -> None:
                self.lines = lines

            def identity(self) -> dict[str, Json]:
                return {"lines": len(self.lines)}

            def total(self) -> int | None:
                return len(self.lines)

            def read(self, cursor: Json) -> Iterator[tuple[list[str], Json, int]]:
                start = cursor if isinstance(cursor, int) else 0
                for at in range(start, len(self.lines), 100):
                    done = min(at + 100, len(self.lines))
                    yield self.lines[at:done], done, done
    """

    #: What `total` and the `done` of a chunk count, in the plural: "bytes", "rows".
    unit: str

    def identity(self) -> dict[str, Json]:
        """Return what tells this data from other data; a checkpoint keeps it beside the cursor."""
        ...

    def total(self) -> int | None:
        """Return how much there is, in `unit`; None if that is not known."""
        ...

    def read(self, cursor: Json) -> Iterator[tuple[Chunk_co, Json, int]]:
        """Hand out the data behind a cursor, chunk by chunk.

        Args:
            cursor: one that an earlier `read` handed out, possibly in another process; None reads from the start.

        Yields:
            The chunk, the cursor behind it (JSON, never None), and how much lies before that cursor, in `unit`.

        Raises:
            SourceError: it cannot be read further; all that could be read before was handed out.
        """
        ...

    def check(self, identity: dict[str, Json], cursor: Json) -> None:
        """Make sure that a checkpoint's cursor still fits the data that is there now.

        Args:
            identity: what `identity` returned when the checkpoint was made.
            cursor: the checkpoint's cursor; None when nothing was handed out yet.

        Raises:
            SourceChanged: it does not fit.
        """
        check_same(identity, self.identity())


def check_same(then: dict[str, Json], now: dict[str, Json]) -> None:
    """Compare two identities field by field.

    Args:
        then: the identity in the checkpoint.
        now: the identity of what is there now.

    Raises:
        SourceChanged: a field differs or is on one side only; the message names every such field with both values.
    """
    differing = [
        f"{name} is {_shown(now, name)}, it was {_shown(then, name)}"
        for name in sorted(then.keys() | now.keys())
        if _shown(then, name) != _shown(now, name)
    ]
    if differing:
        raise SourceChanged(
            f"cannot go on from the checkpoint: the source changed since: {'; '.join(differing)}",
            hint="put the source back as it was and 'tapfs resume', or start anew",
        )


def _shown(identity: dict[str, Json], name: str) -> str:
    return repr(identity[name]) if name in identity else "absent"
