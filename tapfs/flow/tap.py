"""Taps inside a step: where a running task may be stopped, and what it saves when it is.

    @app.task
    def tally(path, by, of):
        for totals, rows in tap.fold(CsvFile(path), {}):
            for row in rows:
                ...
        return totals

Called outside an operation (a unit test, a shell) the same task just runs, and every function here does nothing.

A stop is raised as `Stop`, a BaseException, so that `except Exception` in a task does not swallow a pause. Invariant:
cursor and value are saved together and after the work on the chunk (law 5), so a fold is exact after any crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from tapfs.errors import ResultUnstorable
from tapfs.flow.codec import is_faithful
from tapfs.flow.fold import unfaithful
from tapfs.flow.place import Stop, current_place
from tapfs.flow.sources import Source

Chunk = TypeVar("Chunk")
Value = TypeVar("Value", dict, list)  # type: ignore[type-arg]


def operation_id() -> str | None:
    """The id of the operation whose step this is; None outside one."""
    place = current_place()
    return None if place is None else place.operation_id


def check() -> None:
    """Be a tap: stop here if somebody asks for it.

    Cheap enough for an inner loop: the files are looked at no more often than every 50 ms.

    Raises:
        Stop: the operation is to pause, to end, or was given to another worker.
    """
    place = current_place()
    if place is not None:
        place.check()


def progress(done: float, total: float | None = None, *, unit: str | None = None, note: str | None = None) -> None:
    """Say how far the step has come, for people to see; be a tap as well.

    Args:
        done: how much is done, in `unit`.
        total: how much there is; None when unknown.
        unit: what is counted, e.g. `rows`.
        note: a short text.

    Raises:
        Stop: as `check` does.
    """
    place = current_place()
    if place is not None:
        place.report(done, total, unit, note)
        place.check()


def once(key: str) -> bool:
    """Say, once in all the runs of this step, that a side effect may be done.

        if tap.once(f"mail-{row['id']}"):
            send(row)

    The answer is noted durably before it is given, so a step that runs again after a crash gets False for it: the side
    effect happens at most once. A crash between the answer and the side effect leaves it undone; where that is worse
    than doing it twice, give the other side an `idempotency_key` instead. Costs a synced write.

    Args:
        key: names the side effect within the step.

    Returns:
        Whether it may be done now; always True outside an operation.

    Raises:
        Stop: the operation was given to another worker.
    """
    place = current_place()
    return True if place is None else place.once(key)


def idempotency_key(name: str) -> str:
    """Return a text for a side effect that is the same in every run of this step, and in no other step or operation.

    Give it to those who take such keys (payment services, mail gateways, a column with a unique index): what they get
    twice, after a crash, they do once. Outside an operation it is the name itself.
    """
    place = current_place()
    return name if place is None else place.key_for(name)


def fold(source: Source[Chunk], initial: Value) -> Iterator[tuple[Value, Chunk]]:
    """Go through a source chunk by chunk, with a value that is worked on; there is a tap behind each chunk.

    The value is changed in place. It is saved together with the cursor about once a second and at a stop, and is given
    back as it was when the step goes on. There is always at least one turn: with no chunk left, the chunk is empty.

    A step may fold several times, one after the other; each goes on where it was. Folds inside one another are refused.

    Args:
        source: where the data is.
        initial: the value to begin with, a dict or list that JSON holds faithfully.

    Yields:
        The value and the next chunk.

    Raises:
        Stop: as `check` does.
        ResultUnstorable: the value is none that JSON gives back as it is; the last checkpoint is unchanged.
        SourceChanged: the source is not what the checkpoint was made of; the checkpoint is unchanged.
        TapfsError: another fold of the step is not over.
    """
    if not isinstance(initial, (dict, list)):
        raise ResultUnstorable(
            f"a fold's value must be a dict or a list, which can be changed in place, not {type(initial).__name__}",
            hint="for a count, fold into {'count': 0}",
        )
    if not is_faithful(initial):
        raise unfaithful(initial)
    place = current_place()
    if place is None:
        for chunk, _, _ in _at_least_once(source, None, 0):
            yield initial, chunk
        return
    own = place.open_fold(source, initial)
    value: Value = own.value
    try:
        place.check()
        for chunk, cursor, done in _at_least_once(source, own.cursor, own.done):
            yield value, chunk
            place.turn(own, cursor, done)
        own.snapshot()
    finally:
        own.is_open = False


def _at_least_once(source: Source[Chunk], cursor: object, done: float) -> Iterator[tuple[Chunk, object, int | float]]:
    """Read a source; where nothing is left, give one empty chunk with the cursor as it was."""
    is_empty = True
    for item in source.read(cursor):  # type: ignore[arg-type]
        is_empty = False
        yield item
    if is_empty:
        empty: list[object] = []
        yield empty, cursor, source.total() or done  # type: ignore[misc]


__all__ = ["Stop", "check", "fold", "idempotency_key", "once", "operation_id", "progress"]
