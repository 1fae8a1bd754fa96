"""Where a running step is: its folds, its progress, its checkpoint, and when it looks at the files again.

The state behind the functions of `tap`, one object a running step. The newest whole turn of every fold (cursor and
value together) is kept in memory; it reaches the disk about once a second, at a stop, and when the step raises.
Taking that snapshot is bounded to a small share of the running time, so a large value is saved less often, not slowly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import Any

from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.doorbell import reconcile
from tapfs.bus.fields import Json
from tapfs.bus.folder import OperationFolder
from tapfs.bus.records import Checkpoint
from tapfs.bus.requests import in_force
from tapfs.bus.saved import note_begun, read_begun, read_checkpoint, write_checkpoint
from tapfs.bus.states import Want
from tapfs.errors import RecordInvalid, TapfsError
from tapfs.flow.additions import Additions
from tapfs.flow.fold import SHARE, Fold

logger = logging.getLogger(__name__)

#: Seconds between two looks at the files.
CHECK_INTERVAL_S = 0.05
#: Seconds between two checkpoints on disk.
CHECKPOINT_INTERVAL_S = 1.0
#: Seconds between two questions to the clause, inside a step.
CLAUSE_INTERVAL_S = 1.0
_LOST = "the step was given to another"


class Stop(BaseException):
    """Raised at a tap when the step is to stop; never caught by `except Exception`. Tasks let it pass."""


_place: ContextVar[Place | None] = ContextVar("tapfs_place", default=None)
#: The places of the steps that this process runs, by operation.
_running: dict[str, Place] = {}


@dataclass(frozen=True)
class Progress:
    """How far a step has come: `done` of `total` in `unit`, and a note; None for what is not known."""

    done: float | None = None
    total: float | None = None
    unit: str | None = None
    note: str | None = None


def current_place() -> Place | None:
    """The place of the step that this thread runs; None outside one."""
    return _place.get()


def current_progress(operation_id: str) -> Progress:
    """How far the step of that operation has come which this process runs; unknown where it runs none."""
    place = _running.get(operation_id)
    return place.progress if place is not None else Progress()


class Place:
    """Where the step that this thread runs is.

    Args:
        operation: its operation.
        held: its claim.
        ask_clause: asked at taps, at most every second; a text says why to pause, None to go on.
        why_leave: asked at taps; a text says why the step is to go on in another worker, None to stay.

    Attributes:
        pause_because: why the clause asks to pause, once it does.
        leave_because: why the step is to go on in another worker, once it is.
        trouble: why the step has to wait until the files can be written, once it has.
        retry: when, and for which count, `self.retry` asked for another try; None for no retry.
        additions: what the step adds to its plan.
    """

    def __init__(
        self,
        operation: OperationFolder,
        held: HeldClaim,
        ask_clause: Callable[[], str | None] | None = None,
        why_leave: Callable[[float], str | None] | None = None,
    ) -> None:
        self._operation = operation
        self._held = held
        self._ask_clause = ask_clause
        self._why_leave = why_leave
        self._folds: list[Fold] = []
        self._reported: Progress | None = None
        # Without a tap before this step the workflow cannot be held with it undone: a stop would only restart it.
        self._can_pause = operation.known_plan().has_tap_before(held.step)
        now = time.monotonic()
        self._next_check = now
        self._next_clause = now + CLAUSE_INTERVAL_S
        self._next_write = now + CHECKPOINT_INTERVAL_S
        self._begun: set[str] | None = None
        self._has_moved = False
        self._entered = now
        self.pause_because: str | None = None
        self.leave_because: str | None = None
        self.trouble: OSError | None = None
        self.retry: tuple[str | None, int] | None = None
        self.additions = Additions(operation, held)
        earlier = read_checkpoint(operation, held)
        self._earlier: list[Json] = earlier.folds if earlier else []
        self._written = None if earlier is None else self._of_this_attempt(earlier)
        self._began = now - (earlier.running_s if earlier else 0.0)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be the place that the functions of `tap` speak of, in this thread."""
        token = _place.set(self)
        _running[self.operation_id] = self
        try:
            yield
        finally:
            _running.pop(self.operation_id, None)
            _place.reset(token)

    @property
    def operation_id(self) -> str:
        """Whose step it is."""
        return self._operation.id

    @property
    def progress(self) -> Progress:
        """How far the step has come: as it reports itself, else by its newest fold."""
        if self._reported is not None or not self._folds:
            return self._reported or Progress()
        newest = self._folds[-1]
        return Progress(newest.done, newest.total, newest.unit)

    def open_fold(self, source: Any, initial: Any) -> Fold:
        """Begin the step's next fold: where its checkpoint says, or anew.

        Raises:
            TapfsError: the one before is not over; a stop is a whole turn of one fold only.
        """
        if any(fold.is_open for fold in self._folds):
            raise TapfsError(
                "a step cannot begin a fold while another of its folds is not over",
                hint="fold one after the other; read what belongs inside a fold's body without tap.fold",
            )
        number = len(self._folds)
        if number < len(self._earlier):
            earlier = self._checked(self._earlier[number])
            source.check(earlier["identity"], earlier["cursor"])
            fold = Fold(source, earlier["value"], earlier["cursor"], earlier["done"], source.total())
        else:
            fold = Fold(source, initial, None, 0, source.total())
        fold.snapshot()
        fold.next_snapshot = 0.0  # what cannot be saved is to be found at the first chunk
        self._folds.append(fold)
        return fold

    def _checked(self, earlier: Json) -> dict[str, Json]:
        if isinstance(earlier, dict) and {"identity", "cursor", "done", "value"} <= earlier.keys():
            return earlier
        path = str(self._operation.layout.checkpoint(self._held.step))
        raise RecordInvalid(path, ("field 'folds' holds no fold",), hint="move it away to start the step anew")

    def report(self, done: float, total: float | None, unit: str | None, note: str | None) -> None:
        """Note the step's own progress, in place of its folds'."""
        self._reported = Progress(done, total, unit, note)

    def turn(self, fold: Fold, cursor: Json, done: float) -> None:
        """Be the tap behind a chunk of a fold: here, and only here, cursor and value belong together."""
        self._has_moved = self._has_moved or cursor != fold.cursor  # it is the same behind the empty chunk at an end
        fold.move(cursor, done)
        now = time.monotonic()
        if now >= fold.next_snapshot:
            fold.snapshot()
        if now >= self._next_check:
            self._look(now, fold)

    def check(self) -> None:
        """Be a tap in the middle of work: a stop here goes back to the last whole turn of a fold.

        Raises:
            Stop: the step is to stop; its place is saved.
        """
        now = time.monotonic()
        if now >= self._next_check:
            self._look(now, None)

    def once(self, key: str) -> bool:
        """Note that a side effect begins; says whether it was not begun before, by any run of the step.

        Raises:
            Stop: the step was given to another, who may begin it; or it cannot be noted.
        """
        try:
            if self._begun is None:
                self._begun = read_begun(self._operation, self._held)
            if key in self._begun:
                return False
            is_noted = note_begun(self._operation, self._held, key)
        except OSError as error:  # no fault of the step's: it goes on once it can be noted
            self.trouble = error
            self.try_to_save()
            raise Stop(f"a side effect cannot be noted: {error}") from error
        if not is_noted:
            raise Stop(_LOST)
        self._begun.add(key)
        return True

    def key_for(self, name: str) -> str:
        """A text for that name that is the same in every run of this step, and in no other step or operation."""
        return f"{self.operation_id}/{self._held.step.path}/{name}"

    def _look(self, now: float, at_turn_of: Fold | None) -> None:
        """Look at the files; stop if somebody asks for it; write the checkpoint if it is time to."""
        try:
            request = in_force(self._operation.control, self._operation.layout)
        except OSError as error:  # what cannot be seen is not asked; the next look may see it
            logger.warning("operation %s: cannot look at what is asked: %s", self._operation.id, error)
            self._next_check = time.monotonic() + CHECKPOINT_INTERVAL_S
            return
        is_asked = request.want is Want.CANCEL or (request.want is Want.PAUSE and self._can_pause)
        is_lost = not self._held.is_ours()
        must_stop = is_asked or is_lost or self._clause_says_so(now) or self._leaves(now)
        if must_stop or now >= self._next_write:
            start = time.monotonic()
            if must_stop and at_turn_of is not None:
                at_turn_of.snapshot()
            self.try_to_save()
            if not must_stop:
                self._reconcile()
            end = time.monotonic()
            self._next_write = end + max(CHECKPOINT_INTERVAL_S, (end - start) / SHARE)
        if must_stop:
            asked = request.reason or f"{request.source} asks to {request.want}"
            raise Stop(self.pause_because or self.leave_because or (asked if is_asked else _LOST))
        self._next_check = time.monotonic() + CHECK_INTERVAL_S

    def _reconcile(self) -> None:
        """Bring `state.json` up to the step, also without a supervisor; what hinders that is no fault of the step."""
        try:
            reconcile(self._operation)
        except (OSError, TapfsError) as error:
            logger.warning("cannot reconcile operation %s at a tap: %s", self.operation_id, error)

    def _clause_says_so(self, now: float) -> bool:
        if self._ask_clause is None or now < self._next_clause:
            return False
        self.pause_because = self._ask_clause()
        self._next_clause = time.monotonic() + CLAUSE_INTERVAL_S
        return self.pause_because is not None

    def _leaves(self, now: float) -> bool:
        if self._why_leave is not None:
            # Who has come nowhere that can be saved would begin anew, and run for its maximum again.
            self.leave_because = self._why_leave(now - self._entered if self._has_moved else 0.0)
        return self.leave_because is not None

    def try_to_save(self) -> None:
        """Save, if that can be done: the step goes on, or ends, all the same, and may have to do more again."""
        try:
            self.save()
        except (OSError, TapfsError) as error:
            logger.warning("the checkpoint of operation %s cannot be written: %s", self.operation_id, error)

    def save(self) -> None:
        """Write the newest whole turn to disk, if it is newer than what is there."""
        progress = self._reported or Progress()
        if self._reported is None and self._folds:
            newest = self._folds[-1]
            progress = Progress(newest.saved["done"], newest.total, newest.unit)
        # The folds that this run has not come to yet stay as they are.
        folds = [fold.saved for fold in self._folds] + self._earlier[len(self._folds) :]
        checkpoint = self._of_this_attempt(Checkpoint(folds=folds, **asdict(progress)))
        if checkpoint == self._written or (not self._folds and progress.done is None):
            return
        running_s = round(time.monotonic() - self._began, 3)
        stamped = replace(checkpoint, running_s=running_s, written_at=timestamp(self._operation.now()))
        write_checkpoint(self._operation, self._held, stamped)
        self._written = checkpoint

    def _of_this_attempt(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same place, as this attempt would write it; so that one which brings no news is not written."""
        claim = self._held.claim
        return replace(checkpoint, epoch=claim.epoch, attempt=claim.attempt, running_s=0.0, written_at=None)
