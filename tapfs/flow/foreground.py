"""Running one operation here and now: its steps in this process, one after the other, with no broker at all.

A message is only a doorbell, so whoever looks at `claims/` needs none: a step that is out and unclaimed is claimed and
run through its task's own tracer, so that signals, retries and states stay Celery's. Members of a group run one after
the other. Others may work on the same operation at the same time; one claim, one commit holds between all of them. Time
limits of tasks are not enforced here, as in Celery's solo pool, and nothing goes into Celery's result backend.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from celery import Celery
from celery.app.trace import build_tracer
from celery.states import FAILURE
from kombu.utils.uuid import uuid

from tapfs import settings
from tapfs.bus import claims
from tapfs.bus.clock import seconds_of
from tapfs.bus.control import Control
from tapfs.bus.document import checkpoint_of
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Step, leaves
from tapfs.bus.publication import Publication
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Claim
from tapfs.bus.states import FINAL, State
from tapfs.bus.workers import FOREGROUND
from tapfs.errors import RecordInvalid, TapfsError
from tapfs.flow.message import HEADER, header_for
from tapfs.flow.place import Progress, current_progress

#: Seconds between two looks while there is nothing to run.
POLL_S = 0.05
#: Seconds between two reconciles by the observer.
RECONCILE_INTERVAL_S = 1.0
#: Looks in a row at which there is nothing to run, here or elsewhere, before it is believed that there will not be.
IDLE_LOOKS = 3
#: Seconds after which a step is tried again that could not be begun or ended for want of a working disk.
RETRY_INTERVAL_S = 2.0
_AT_REST = (*FINAL, State.PAUSED, State.WAITING)


class Bus(Protocol):
    """What is needed here of the `Bus`, which itself runs operations here in an eager app."""

    app: Celery
    control: Control

    def reconcile(self, operation: Operation) -> Settled:
        """As `Bus.reconcile`."""

    def start_parsed(self, name: str, words: list[str]) -> Operation:
        """As `Bus.start_parsed`."""

    def find(self, part: str) -> Operation:
        """As `Bus.find`."""


class Crash(BaseException):
    """Raised in a step by `tapfs.testing`: its worker is lost, and another goes on."""


@dataclass(frozen=True)
class Standing:
    """How an operation stands, for people: its state, its step, and how far that, or the group it is in, has come."""

    state: State
    step: str | None
    steps_done: int
    steps_total: int
    message: str | None
    progress: Progress


class Foreground:
    """Runs one operation's steps in this process, in the calling thread.

    Args:
        bus: a bus whose publisher stays silent; see `start` and `resume`.
        operation: the operation.

    Attributes:
        raised: what steps raised for good, by their labels.
    """

    def __init__(self, bus: Bus, operation: Operation) -> None:
        self.operation = operation
        self._bus = bus
        self._stops_when_paused = threading.Event()
        self._observer = Control(bus.control.path, actor=bus.control.actor).operation(operation.id)
        self.raised: dict[str, BaseException] = {}
        self._next_reconcile = 0.0
        self._seen: tuple[str | None, State, Progress] | None = None

    def run(self) -> State:
        """Run until the operation has ended, or is paused after `pause_and_stop`; returns its state.

        While it is held, or waits at a gate or for a time, so does this.
        """
        while True:
            settled, found = self._look(waits=True)
            if found is not None:
                self._execute(*found)
                continue
            is_stopped = settled.state is State.PAUSED and self._stops_when_paused.is_set()
            if is_stopped or (settled.state in FINAL and not settled.look_again):
                return settled.state
            time.sleep(POLL_S)

    def run_to_rest(self) -> State:
        """Run until there is nothing more to run; returns the operation's state.

        That is when it has ended, is paused, or waits at gates with nothing else to do. What is due later is run at
        once. What runs elsewhere at the same time is waited for.
        """
        idle = 0
        while idle < IDLE_LOOKS:
            settled, found = self._look(waits=False)
            if found is not None:
                idle = 0
                self._execute(*found)
                continue
            # Not while an edit is in the making there.
            if settled.state in _AT_REST and self.operation.state is settled.state:
                break
            is_busy = any(out.is_held for out in claims.all_out(self.operation.layout))
            idle = 0 if is_busy else idle + 1
            time.sleep(POLL_S)
        return settled.state

    def pause_and_stop(self, reason: str) -> None:
        """Ask the operation to pause, and `run` to return then. Safe in a signal handler: a thread does it.

        The handler may interrupt this very process inside the operation's lock, which a thread waits for.
        """
        self._stops_when_paused.set()
        threading.Thread(target=_pause, args=(self._observer, reason), daemon=True).start()

    def standing(self) -> Standing:
        """How the operation stands now; cheap, for one thread beside the one in `run`.

        Reconciles about once a second, so that files asking for something are answered also while a step never taps.
        """
        if time.monotonic() >= self._next_reconcile:
            self._observer.reconcile()
            self._next_reconcile = time.monotonic() + RECONCILE_INTERVAL_S
        view = self._observer.view()
        state = State(view.state or State.QUEUED)
        progress = self._progress(view.step, state)
        if progress.done is None:
            progress = self._progress_of_group(view.step, view.steps_done)
        return Standing(state, view.step, view.steps_done, view.steps_total, view.message, progress)

    def _progress(self, step: str | None, state: State) -> Progress:
        """How far the step has come; while it does not run here, as far as it was known to have come."""
        progress = current_progress(self.operation.id)
        if progress.done is None:
            seen = self._seen
            if seen is not None and seen[0] == step and (seen[1] == state or seen[2].done is not None):
                return seen[2]
            # Read when something changes, and not at each look: it may be large.
            saved = None
            with suppress(RecordInvalid, OSError):  # who runs the step says so
                saved = checkpoint_of(self._observer, step)
            progress = Progress() if saved is None else Progress(saved.done, saved.total, saved.unit, saved.note)
        self._seen = (step, state, progress)
        return progress

    def _progress_of_group(self, label: str | None, steps_done: int) -> Progress:
        """How far the outermost group around a step has come; unknown where there is none."""
        with suppress(RecordInvalid, OSError):
            plan = self._observer.plan()
            step = next((one for one in plan.steps if one.label == label), None)
            around = list(plan.members_around(step)) if step is not None else []
            if around:
                within = list(leaves(around[-1][0]))
                # Whatever stands before it is done.
                done = max(0, steps_done - plan.place(within[0].path))
                return Progress(done, len(within), "steps")
        return Progress()

    def _look(self, *, waits: bool) -> tuple[Settled, tuple[Step, Claim] | None]:
        """Reconcile, and find the first step that is to run here; not one that would be dropped."""
        settled = self._bus.reconcile(self.operation)
        if settled.run.outcome is not None or settled.run.is_failing or settled.state is State.CANCELLING:
            return settled, None
        plan = self.operation.plan()
        for out in claims.all_out(self.operation.layout):
            claim = out.claim
            if claim is None or out.is_held or claim.holder is not None or not plan.has(out.path):
                continue
            step = plan.step(out.path)
            is_to_stop = settled.state is State.PAUSING and plan.has_tap_before(step)
            if not is_to_stop and self._is_due(claim, waits=waits):
                return settled, (step, claim)
        return settled, None

    def _is_due(self, claim: Claim, *, waits: bool) -> bool:
        """Whether a step that is out is to run now."""
        if claim.trouble is not None and claim.cause == "interruption":  # the disk is full, say
            tried_at = seconds_of(claim.published_at) or 0.0
            return waits and self.operation.now() >= tried_at + RETRY_INTERVAL_S
        return not waits or (seconds_of(claim.not_before) or 0.0) <= self.operation.now()

    def _execute(self, step: Step, claim: Claim) -> None:
        """Run one step as Celery would run its message; its end is on disk afterwards, unless its worker was lost."""
        app = self._bus.app
        task = self._task_of(step)
        publication = Publication(
            self.operation.id, step, claim.epoch, claim.attempt, claim.publishes, claim.retries, claim.not_before
        )
        hostname = f"{FOREGROUND}{settings.user_name()}"
        request: dict[str, Any] = {
            "id": uuid(),
            "hostname": hostname,
            "retries": claim.retries,
            "headers": {**(step.options.get("headers") or {}), HEADER: header_for(publication)},
            "callbacks": step.options.get("link"),
            "errbacks": step.options.get("link_error"),
            "ignore_result": True,  # its id is nobody's, and where results are kept may be out of reach
            "delivery_info": {},
            "is_eager": False,
        }
        trace = build_tracer(task.name, task, app=app, hostname=hostname)
        actor = self.operation.actor
        try:
            outcome = trace(request["id"], [], {}, request)
        except Crash:
            return
        finally:
            self.operation.actor = actor  # the step has acted as its worker, by the same object
        if outcome.info is not None and outcome.info.state == FAILURE:
            self.raised[step.label] = outcome.info.retval

    def _task_of(self, step: Step) -> Any:
        """The task of a step; raises `TapfsError` where the app has none that can be a step."""
        app = self._bus.app
        task = app.tasks.get(step.task)
        if task is not None and getattr(task, "is_tappable", False):
            return task
        what = f"cannot run step {step.label} of operation '{self.operation.id}': "
        if task is None:
            what += f"app '{app.main}' knows no task '{step.task}'"
            hint = "name the app that has it with --app; the operation is unchanged"
        else:
            what += f"task '{step.task}' is a {type(task).__mro__[1].__name__}, no TappableTask"
            hint = 'make the app with task_cls="tapfs.flow:TappableTask"; the operation is unchanged'
        raise TapfsError(what, hint=hint)


def start(bus: Bus, name: str, words: list[str]) -> Foreground:
    """Make an operation from `KEY=VALUE` words, to be run here; raises as `Bus.start` does."""
    _be_silent(bus)
    return Foreground(bus, bus.start_parsed(name, words))


def resume(bus: Bus, part: str) -> Foreground:
    """Lift the holds of an operation and go on with it here.

    Raises:
        OperationUnknown: there is no such operation.
        Refused: it is being cancelled; nothing was changed.
    """
    _be_silent(bus)
    operation = bus.find(part)
    operation.resume()
    return Foreground(bus, operation)


def _be_silent(bus: Bus) -> None:
    """Have the bus put steps out without ringing anybody: this process looks for itself."""
    bus.control.publisher = lambda publication: None


def _pause(operation: Operation, reason: str) -> None:
    try:
        operation.pause(reason)
    except TapfsError:
        return  # it has ended, or is being cancelled: `run` returns by itself
