"""The worker's parent's side of a step: what only the parent sees of the process that runs it.

A hard time limit and a lost process run no code in the process itself. Celery's own `Request` learns of both; this one
also writes them down. Each is right whenever it comes: the claim is asked whether it is still that attempt's (law 3).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import state
from celery.worker.request import Request

from tapfs.bus.losses import fail_out, note_loss
from tapfs.bus.operation import Operation
from tapfs.errors import OperationUnknown, TapfsError
from tapfs.flow import employment
from tapfs.flow.bus import bus_of
from tapfs.flow.message import HeaderInvalid, StepHeader, header_of

logger = logging.getLogger(__name__)


class StepRequest(Request):
    """A request whose task may be a step."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Fail the step at a hard time limit, while its process still holds the claim: nobody is to run it again."""
        header = header_in(self._context)
        if header is not None and not soft and not state.should_terminate:
            see_to(self._app, header, lambda operation: _fail_at_limit(operation, header, timeout))
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Note how the process was lost; in a thread, for the loop of the worker must not wait for a lock."""
        header = header_in(self._context)
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if header is not None and isinstance(error, (WorkerLostError, SystemExit)):
            how = f"exit with status {error.code}" if isinstance(error, SystemExit) else _end_of(error)
            in_background(self._app, header, lambda operation: _note_loss(operation, header, how))
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


def header_in(context: Any) -> StepHeader | None:
    """The header of a request; None for a task that is no step, and for an invalid header."""
    try:
        return header_of(context)
    except HeaderInvalid:
        return None


def see_to(app: Any, header: StepHeader, act: Callable[[Operation], object]) -> None:
    """Do something to the operation of a step; what hinders that is logged."""
    try:
        operation = bus_of(app).control.operation(header.operation)
        operation.actor = f"worker:{employment.worker_name() or 'worker'}"
        act(operation)
    except OperationUnknown:
        logger.debug("operation %s is not there any more", header.operation)
    except (TapfsError, OSError):
        logger.exception("the end of step %s of operation %s could not be noted", header.step, header.operation)


def in_background(app: Any, header: StepHeader, act: Callable[[Operation], object]) -> None:
    """Do the same in a thread."""
    threading.Thread(target=see_to, args=(app, header, act), name="tapfs-note", daemon=True).start()


def _fail_at_limit(operation: Operation, header: StepHeader, limit_s: float) -> None:
    text = f"the step ran over its hard time limit of {limit_s:g} s, and its process was ended"
    kind = TimeLimitExceeded.__name__
    fail_out(operation, header.step, header.epoch, header.attempt, kind, text, employment.worker_name())


def _note_loss(operation: Operation, header: StepHeader, how: str) -> None:
    note_loss(operation, header.step, header.epoch, header.attempt, how)


def _end_of(error: WorkerLostError) -> str:
    """`signal 9 (SIGKILL)`, from billiard's `Worker exited prematurely: signal 9 (SIGKILL) Job: 3.`"""
    text = str(error.args[0] if error.args else error)
    return text.partition("prematurely: ")[2].partition(" Job:")[0].rstrip(".") or text
