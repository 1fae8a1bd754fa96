"""The worker's side of a step: claim, load, run, commit; and a defined outcome on disk for every way a task can end.

The directory is asked whether the message still holds (`claim_step`), the arguments come from it, and the result goes
into it before anything is published. A task that returns is committed, one that raises fails the operation, `Stop`
gives the step back or to another worker, and so does `Reject(requeue=True)`; `self.retry` puts it out again for later.
Where the files cannot be read or written for now, the step is put out again for later, too. Whatever is no Exception
(SystemExit, a lost process) leaves the claim to die with the process, and the step is recovered.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore, Reject, Retry

from tapfs.bus.begin import Dropped, claim_step, give_up_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.fields import Json
from tapfs.bus.losses import pass_on
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan, Sequence, Step
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Failure
from tapfs.bus.steps import commit_step, fail_step, interrupt_step, release_step, retry_step, return_step
from tapfs.bus.values import value_of
from tapfs.errors import LockTimeout, OperationUnknown, TapfsError, text_of
from tapfs.flow import employment
from tapfs.flow.codec import from_json, to_json
from tapfs.flow.message import StepHeader
from tapfs.flow.place import Place, Stop
from tapfs.flow.pulse import signs_of_life
from tapfs.flow.references import call
from tapfs.flow.then import Replaced, Then

if TYPE_CHECKING:
    from tapfs.flow.bus import Bus

logger = logging.getLogger(__name__)

#: Seconds after which a worker that is to leave passes a message on: the parent may still be taking messages.
_PASS_ON_AFTER_S = 0.3


def run_step(task: Any, header: StepHeader, bus: Bus) -> Any:
    """Run the step that a message speaks of, if it may still run.

    Args:
        task: the Celery task, with its request.
        header: what the message says.
        bus: where the operation is.

    Returns:
        What the task returned.

    Raises:
        Ignore: the message had no effect, or the step stopped at a tap; Celery is to do nothing.
        Exception: what the task raised, for Celery's own books.
    """
    worker = employment.worker_name() or task.request.hostname or "worker"
    operation = bus.control.operation(header.operation)
    operation.actor = f"worker:{worker}"
    try:
        if employment.why_leave() is not None:
            time.sleep(_PASS_ON_AFTER_S)
            pass_on(operation, header.step, header.epoch, header.attempt)
            raise Ignore
        held = claim_step(operation, header.step, header.epoch, header.attempt, worker)
    except OperationUnknown:
        logger.warning("dropped a message of operation %s, which is not in %s", header.operation, bus.control.path)
        raise Ignore from None
    except (OSError, TapfsError) as error:  # the step stays out, and is published again after a while
        logger.error("operation %s, step %s cannot be claimed: %s", header.operation, header.step, text_of(error))
        raise Ignore from None
    if isinstance(held, Dropped):
        logger.info("dropped a message of operation %s, step %s: %s", header.operation, header.step, held.reason)
        bus.tell_if_paused(operation)
        raise Ignore
    try:
        with signs_of_life(held):
            return _Run(task, bus, operation, held).execute()
    finally:
        # Only an end that could not be written, or SystemExit, finds it held: the step is recovered then, not stuck.
        held.release()


class _Run:
    """One run of one claimed step."""

    def __init__(self, task: Any, bus: Bus, operation: Operation, held: HeldClaim) -> None:
        self._task = task
        self._bus = bus
        self._operation = operation
        self._held = held
        self._plan: Plan = operation.known_plan()
        self._started_at = timestamp(operation.now())
        self._last: Json = None

    def execute(self) -> Any:
        """Run the task and put its end on disk."""
        try:
            args, kwargs = self._arguments()
            place = Place(self._operation, self._held, self._clause(), self._why_leave)
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                self._returned("begun", error)
                raise Ignore from None
            if not self._failed(None, error):  # spoilt or gone, and stays so until a person sees to it
                raise Ignore from None
            raise
        result, stored = self._run(place, args, kwargs)
        if not self._commit(place, stored):
            raise Ignore
        if place.additions.then:
            raise Ignore("what it put in behind itself gives the result")
        return result

    def _run(self, place: Place, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, Json]:
        """Run the task itself; returns what it returned, and that as it is stored."""
        try:
            with place.entered():
                self._task.request.update(args=args, kwargs=kwargs, tapfs_place=place)
                result = self._task.run(*args, **kwargs)
            if place.retry is not None:  # self.retry(throw=False)
                raise Retry
            if isinstance(result, Then):
                place.additions.put_in(result.workflow)
                return None, None
            return result, to_json(result, f"the result of step {self._held.step.label}")
        except Stop as stop:
            self._stopped(place, str(stop))
            raise Ignore from None
        except Replaced:
            return None, None
        except Retry:
            self._retry(place)
            raise
        except Reject as rejection:
            if not rejection.requeue:
                if not self._failed(place, rejection):
                    raise Ignore from None
                raise
            place.leave_because = f"its task rejected it: {rejection.reason}"
            self._stopped(place, place.leave_because)
            raise Ignore from None  # the message is done with: the step has a new one
        except Exception as error:
            if not self._failed(place, error):
                raise Ignore from None
            raise
        except BaseException:
            place.try_to_save()
            raise

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What the task is called with: the result before it, unless it is immutable, and its own arguments."""
        step: Step = self._held.step
        args, kwargs = from_json(step.args), from_json(step.kwargs)
        before = self._plan.before(step)
        if before is not None:
            self._last = value_of(self._operation, before)
            if not step.immutable:
                args = [from_json(self._last), *args]
        return args, kwargs

    def _clause(self) -> Callable[[], str | None] | None:
        if self._plan.clause is None or not self._plan.has_tap_before(self._held.step):
            return None
        return lambda: self._ask_clause(self._last)

    def _ask_clause(self, last: Json) -> str | None:
        """Ask the clause about the last return value; a text says why to pause. A clause that raises pauses too."""
        try:
            answer = call(self._task.app, self._plan.clause, from_json(last))
        except Exception as error:
            logger.exception("the clause of operation %s raised", self._operation.id)
            return f"the clause raised {type(error).__name__}: {error}"[:500]
        return f"the clause {_name_of(self._plan.clause)} says so" if answer else None

    def _commit(self, place: Place, result: Json) -> bool:
        following = self._plan.steps[self._plan.place(self._held.step.path) + 1 :][:1]
        if place.additions.then:
            home, number = self._plan.way_to(self._held.step)[-1]
            is_at_tap = ((number if isinstance(home, Sequence) else 0) + 1) % self._plan.nth == 0
        else:
            is_at_tap = any(self._plan.has_tap_before(step) for step in following)
        because = self._ask_clause(result) if is_at_tap and self._plan.clause is not None else None
        return self._end(
            lambda: commit_step(
                self._operation,
                self._held,
                result,
                self._started_at,
                pause_because=because,
                then=place.additions.then,
                members=place.additions.members,
            )
        )

    def _why_leave(self, running_s: float) -> str | None:
        limits = [one for one in (self._plan.max_running_s, self._bus.max_running_s) if one is not None]
        if limits and running_s >= min(limits):
            return f"it ran for its maximum of {min(limits):g} s"
        return employment.why_leave()

    def _stopped(self, place: Place, reason: str) -> None:
        leave, pause = place.leave_because, place.pause_because
        if place.trouble is not None:
            self._returned("continued", place.trouble)
        elif leave is not None:
            self._end(lambda: interrupt_step(self._operation, self._held, leave))
        else:
            self._end(lambda: release_step(self._operation, self._held, pause_because=pause))
        logger.info("operation %s stopped at a tap in step %s: %s", self._operation.id, self._held.step.label, reason)

    def _retry(self, place: Place) -> None:
        place.try_to_save()
        not_before, retries = place.retry or (None, self._held.claim.retries)
        self._end(lambda: retry_step(self._operation, self._held, not_before, retries))

    def _failed(self, place: Place | None, error: BaseException) -> bool:
        """Write down that the step failed; says whether that counts, so that Celery is to tell of it."""
        if place is not None:
            place.try_to_save()
        failure = Failure(
            type=type(error).__name__,
            message=str(error),
            traceback="".join(traceback.format_exception(error)),
            step=self._held.step.label,
            attempt=self._held.claim.attempt,
            epoch=self._held.claim.epoch,
            worker=self._task.request.hostname,
            failed_at=timestamp(self._operation.now()),
        )
        return self._end(lambda: fail_step(self._operation, self._held, failure))

    def _end(self, write: Callable[[], Settled | Dropped]) -> bool:
        """Write the step's end; says whether it is written and counts: then Celery calls back, else nobody is told.

        While somebody frozen holds the operation's lock nobody can do anything, so that is waited for. Where the files
        cannot be written, the step is put out again.
        """
        name = f"operation {self._operation.id}, step {self._held.step.label}"
        while True:
            try:
                outcome = write()
                break
            except LockTimeout as error:
                logger.warning("%s: its end waits: %s", name, error)
            except OSError as error:
                if self._held.is_released:
                    logger.error("%s: it has ended, but what follows has to wait: %s", name, text_of(error))
                    return True
                self._returned("ended", error)
                return False
        if isinstance(outcome, Dropped):
            logger.warning("%s: its end does not count: %s", name, outcome.reason)
            return False
        self._bus.tell_if_paused(self._operation)
        return True

    def _returned(self, what: str, error: OSError) -> None:
        """Put the step out again for later, for no fault of its own."""
        text = f"it could not be {what} in {self._operation.actor}: {text_of(error)}"
        logger.error("operation %s, step %s: %s", self._operation.id, self._held.step.label, text)
        try:
            return_step(self._operation, self._held, text)
        except (OSError, TapfsError) as second:
            logger.error("operation %s: nothing can be written: %s", self._operation.id, text_of(second))
            give_up_step(self._operation, self._held)


def _name_of(reference: Json) -> str:
    return reference if isinstance(reference, str) else str(reference.get("task"))
