"""The records on disk, one class a file, and their only codec.

Each class shows what stands in its file; `docs/format.md` is the contract in words. A record is read whole or refused
whole with every fault named. What tapfs writes itself is read leniently (unknown fields of a later version are left
out); what people write (`state.json`) is read strictly, because a misspelt field is a request that would be lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, cast

from tapfs.bus import files
from tapfs.bus.fields import Faulty, Field, Json, check_object, encode, parse_object
from tapfs.bus.states import State, Want
from tapfs.errors import RecordInvalid

#: The most bytes of a small record; a larger file is not one of ours.
SMALL = 64 * 1024
#: The most bytes of a plan, a step's result or a checkpoint.
LARGE = 256 * 1024 * 1024
#: The most characters of a reason.
LONGEST_REASON = 1000
#: The most characters of a claim's `trouble`.
LONGEST_TROUBLE = 500

_TEXT = Field((str, type(None)))
_COUNT = Field((int,), default=0)
_TIME = Field((str, type(None)))


@dataclass(frozen=True)
class Record:
    """A JSON object in a file of its own."""

    def encode(self) -> bytes:
        """Write the record as it stands on disk."""
        return encode(asdict(self))

    @classmethod
    def specification(cls) -> dict[str, Field]:
        """What each field may hold."""
        return {one.name: one.metadata["field"] for one in fields(cls)}

    @classmethod
    def decode(cls, content: bytes, *, strict: bool = False) -> Self:
        """Read a record; raises `Faulty` with every fault."""
        return cls(**check_object(parse_object(content), cls.specification(), strict=strict))

    @classmethod
    def read(cls, path: str | Path, limit: int = SMALL) -> Self:
        """Read the record in a file.

        Raises:
            FileNotFoundError: there is none.
            RecordInvalid: what is there is not such a record; it is unchanged.
        """
        try:
            return cls.decode(files.read_bytes(path, limit))
        except Faulty as error:
            raise RecordInvalid(str(path), error.faults) from None
        except files.NotAFile as error:
            raise RecordInvalid(str(path), (str(error.strerror),)) from None


def _of(kind: Field) -> Any:
    """Declare a record's field: what it may hold, and its default."""
    if kind.required:
        return field(metadata={"field": kind})
    if isinstance(kind.default, (dict, list)):
        empty = type(kind.default)
        return field(default_factory=empty, metadata={"field": kind})
    return field(default=kind.default, metadata={"field": kind})


@dataclass(frozen=True, kw_only=True)
class Identity(Record):
    """`operation.json`: what the operation is. Written once.

    Attributes:
        forked_from: `{"operation": <id>, "step": <path>}` of the one it was forked from; null for none.
    """

    id: str = _of(Field((str,), required=True))
    operation: str = _of(Field((str,), required=True))
    arguments: dict[str, Json] = _of(Field((dict,), default={}))
    masked: list[str] = _of(Field((list,), default=[]))
    owner: str | None = _of(_TEXT)
    created_at: str = _of(Field((str,), required=True))
    forked_from: dict[str, Json] | None = _of(Field((dict, type(None))))


@dataclass(frozen=True)
class StateView(Record):
    """`state.json`: `want` and `reason` are the operator's, the rest is tapfs's view of what is true."""

    want: str = _of(Field((str,), required=True, choices=tuple(Want)))
    reason: str | None = _of(Field((str, type(None)), longest=LONGEST_REASON))
    state: str | None = _of(Field((str, type(None)), choices=tuple(State)))
    step: str | None = _of(_TEXT)
    steps_done: int = _of(_COUNT)
    steps_total: int = _of(_COUNT)
    epoch: int = _of(_COUNT)
    message: str | None = _of(_TEXT)
    updated_at: str | None = _of(_TIME)


@dataclass(frozen=True)
class Run(Record):
    """`run.json`: what no other file says.

    Attributes:
        epoch: counts the runs; a message or claim of another epoch is void.
        outcome: how the run of this epoch ended: `paused`, `succeeded`, `failed`, `cancelled`; null while it goes on.
        want, reason, asked_by: the last request of `state.json` that was accepted, so that it outlives that file.
        started_at, finished_at: of the operation: its first claim, and its end while it is final.
        running_s: seconds somebody was at work, up to `running_since`.
        running_since: since when somebody is at work; null while nobody is.
        interruptions: how often a step was left by its worker.
        notice: what a person should read in `message` until their next request.
        hinted: stray files that the journal has mentioned.
        told: the last epoch whose pause the workflow's callback was told of.
        is_failing: a step has failed for good; nothing new starts, and what runs may end.
        stopping: how many steps ran when the operation was last asked to stop; 0 while it is not stopping.
        rewind_to: the path from which what is done is being put aside; null while nothing is.
    """

    epoch: int = _of(Field((int,), required=True))
    outcome: str | None = _of(
        Field((str, type(None)), choices=(State.PAUSED, State.SUCCEEDED, State.FAILED, State.CANCELLED))
    )
    want: str = _of(Field((str,), default=Want.RUN.value, choices=tuple(Want)))
    reason: str | None = _of(_TEXT)
    asked_by: str | None = _of(_TEXT)
    started_at: str | None = _of(_TIME)
    finished_at: str | None = _of(_TIME)
    running_s: float = _of(Field((float,), default=0.0))
    running_since: str | None = _of(_TIME)
    interruptions: int = _of(_COUNT)
    notice: str | None = _of(_TEXT)
    hinted: list[str] = _of(Field((list,), default=[]))
    told: int = _of(_COUNT)
    is_failing: bool = _of(Field((bool,), default=False))
    stopping: int = _of(_COUNT)
    rewind_to: str | None = _of(_TEXT)


@dataclass(frozen=True)
class Holder(Record):
    """Who runs a claimed step."""

    worker: str = _of(Field((str,), required=True))
    host: str = _of(Field((str,), required=True))
    pid: int = _of(Field((int,), required=True))
    claimed_at: str = _of(Field((str,), required=True))


@dataclass(frozen=True, kw_only=True)
class Claim(Record):
    """`claims/<path>`: a step that is out.

    Attributes:
        attempt: which try at the step this is, from 1, within the epoch; with it the fence at commit.
        publishes: how often a message for this attempt was published; published_at: when last.
        cause: why there is an attempt after the first: `crash`, `interruption`, `retry`.
        not_before: when a retry or a countdown falls due; null at once.
        retries: Celery's own count of retries.
        crashes: how many holders of this step died in this epoch, in a row and without progress in between.
        interruptions: how often it was interrupted in this epoch, in a row and without progress in between.
        trouble: why nobody runs it: the broker did not take the message, or a worker could not begin or end it.
        lost_to: how the holder came to its end, as far as anybody saw: `signal 9 (SIGKILL)`, `no sign of life ...`.
        refused_by: the workers that could not run it, for they know no such task.
        holder: who runs it, while the file is locked; who ran it, when the lock is free.
    """

    epoch: int = _of(Field((int,), required=True))
    attempt: int = _of(Field((int,), required=True))
    publishes: int = _of(_COUNT)
    published_at: str | None = _of(_TIME)
    cause: str | None = _of(Field((str, type(None)), choices=("crash", "interruption", "retry")))
    not_before: str | None = _of(_TIME)
    retries: int = _of(_COUNT)
    crashes: int = _of(_COUNT)
    interruptions: int = _of(_COUNT)
    trouble: str | None = _of(_TEXT)
    lost_to: str | None = _of(_TEXT)
    refused_by: list[str] = _of(Field((list,), default=[]))
    holder: dict[str, Json] | None = _of(Field((dict, type(None))))

    @property
    def held_by(self) -> Holder | None:
        """The claim's holder as a record; None for none, and for what is not one."""
        try:
            return None if self.holder is None else Holder(**check_object(self.holder, Holder.specification()))
        except Faulty:
            return None


@dataclass(frozen=True, kw_only=True)
class Commit(Record):
    """`steps/<path>-<name>.json`: a step's result, once and for good.

    Attributes:
        of: the checksum of the step it was (`Step.checksum`), so that an edit of the plan is seen.
    """

    result: Json = _of(Field((str, int, float, bool, list, dict, type(None))))
    started_at: str | None = _of(_TIME)
    finished_at: str | None = _of(_TIME)
    worker: str | None = _of(_TEXT)
    epoch: int = _of(Field((int,), required=True))
    attempt: int = _of(Field((int,), required=True))
    of: int | None = _of(Field((int, type(None))))


@dataclass(frozen=True)
class Checkpoint(Record):
    """`steps/<path>-<name>.checkpoint.json`: what a running step saved inside itself.

    Attributes:
        folds: for each fold of the step, in order: source, cursor, value; cursor and value always belong together.
        done, total, unit, note: its progress.
        running_s: seconds spent in the step so far, in all its runs.
    """

    folds: list[Json] = _of(Field((list,), default=[]))
    done: float | None = _of(Field((float, type(None))))
    total: float | None = _of(Field((float, type(None))))
    unit: str | None = _of(_TEXT)
    note: str | None = _of(_TEXT)
    running_s: float = _of(Field((float,), default=0.0))
    written_at: str | None = _of(_TIME)
    epoch: int = _of(_COUNT)
    attempt: int = _of(_COUNT)


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """`error.json`: what failed."""

    type: str = _of(Field((str,), required=True))
    message: str = _of(Field((str,), default=""))
    traceback: str | None = _of(_TEXT)
    step: str | None = _of(_TEXT)
    attempt: int = _of(_COUNT)
    epoch: int = _of(_COUNT)
    worker: str | None = _of(_TEXT)
    failed_at: str | None = _of(_TIME)


@dataclass(frozen=True, kw_only=True)
class WorkerCard(Record):
    """`workers/<name>/worker.json`: which process the worker is."""

    name: str = _of(Field((str,), required=True))
    host: str = _of(Field((str,), required=True))
    pid: int = _of(Field((int,), required=True))
    started_at: str = _of(Field((str,), required=True))


def plain(value: Json) -> Json:
    """Return a copy as JSON would give it back (tuples as lists, keys as texts).

    Raises:
        TypeError, ValueError: JSON cannot hold it.
    """
    import json

    return cast(Json, json.loads(json.dumps(value, allow_nan=False)))
