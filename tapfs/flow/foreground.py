"""Running one operation here and now: its steps in this process, one after the other, with no broker at all.

A message is only a doorbell, so whoever looks at `claims/` needs none: a step that is out and unclaimed is claimed and
run through its task's own tracer, so that signals, retries and states stay Celery's. Others may work on the same
operation at the same time; one claim, one commit holds between all of them. Time limits of tasks are not enforced here,
as in Celery's solo pool.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery.app.trace import build_tracer
from kombu.utils.uuid import uuid

from tapfs import settings
from tapfs.bus import claims
from tapfs.bus.clock import seconds_of
from tapfs.bus.control import Control
from tapfs.bus.document import checkpoint_of
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Step
from tapfs.bus.publication import Publication
from tapfs.bus.records import Claim
from tapfs.bus.states import FINAL, State
from tapfs.bus.workers import FOREGROUND
from tapfs.errors import RecordInvalid, TapfsError
from tapfs.flow.bus import Bus
from tapfs.flow.message import HEADER, header_for
from tapfs.flow.place import Progress, current_progress

#: Seconds between two looks while there is nothing to run.
POLL_S = 0.05
#: Seconds between two reconciles by the observer.
RECONCILE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Standing:
    """How an operation stands, for people: its state, its step, and how far that has come."""

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
    """

    def __init__(self, bus: Bus, operation: Operation) -> None:
        self.operation = operation
        self._bus = bus
        self._stops_when_paused = threading.Event()
        self._observer = Control(bus.control.path, actor=bus.control.actor).operation(operation.id)
        self._next_reconcile = 0.0
        self._seen: tuple[str | None, State, Progress] | None = None

    def run(self) -> State:
        """Run until the operation has ended, or is paused after `pause_and_stop`; returns its state."""
        while True:
            looks_again = self._bus.reconcile(self.operation).look_again
            state = self.operation.state
            if (state in FINAL and not looks_again) or (state is State.PAUSED and self._stops_when_paused.is_set()):
                return state
            found = None if state in FINAL else self._next_out()
            if found is None:
                time.sleep(POLL_S)
            else:
                self._execute(*found)

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

    def _next_out(self) -> tuple[Step, Claim] | None:
        """The first step that is out, unclaimed and due."""
        now = self.operation.now()
        for out in claims.all_out(self.operation.layout):
            claim = out.claim
            if claim is None or out.is_held or claim.holder is not None:
                continue
            if (seconds_of(claim.not_before) or 0.0) <= now:
                return self.operation.plan().step(out.path), claim
        return None

    def _execute(self, step: Step, claim: Claim) -> None:
        """Run one step as Celery would run its message; its end is on disk afterwards."""
        app = self._bus.app
        task = app.tasks.get(step.task)
        if task is None:
            raise TapfsError(
                f"cannot run step {step.label} of operation '{self.operation.id}': "
                f"app '{app.main}' knows no task '{step.task}'",
                hint="name the app that has it with --app; the operation is unchanged",
            )
        publication = Publication(
            self.operation.id, step, claim.epoch, claim.attempt, claim.publishes, claim.retries, claim.not_before
        )
        hostname = f"{FOREGROUND}{settings.user_name()}"
        request: dict[str, Any] = {
            "id": uuid(),
            "hostname": hostname,
            "retries": claim.retries,
            "headers": {**(step.options.get("headers") or {}), HEADER: header_for(publication)},
            "delivery_info": {},
            "is_eager": False,
        }
        trace = build_tracer(task.name, task, app=app, hostname=hostname)
        trace(request["id"], [], {}, request)


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
