"""The face of one operation, for programs: the verbs, and the manners of Celery's AsyncResult.

It looks without the lock: what it tells was true at one moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from tapfs.bus import again, answering, files, verbs
from tapfs.bus.doorbell import reconcile
from tapfs.bus.fields import Json
from tapfs.bus.folder import OperationFolder
from tapfs.bus.force import GRACE_S, force
from tapfs.bus.members import cancel_member
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import LARGE, Failure, StateView
from tapfs.bus.states import FINAL, TABLE, State
from tapfs.bus.verbs import Answer
from tapfs.errors import OperationUnknown, RecordInvalid, TapfsError

#: Seconds between two looks while waiting.
POLL_S = 0.05


class OperationFailed(TapfsError):
    """`get()` of an operation that did not succeed.

    Attributes:
        state: `failed` or `cancelled`.
        failure: what `error.json` says; None when it was cancelled.
    """

    def __init__(self, message: str, state: str, failure: Failure | None) -> None:
        super().__init__(message)
        self.state = state
        self.failure = failure


class WaitedInVain(TapfsError):
    """`wait()` ended without the state: time was up, or it cannot be reached any more.

    Attributes:
        state: the state it was left in.
        is_timeout: whether time was up.
    """

    def __init__(self, message: str, state: str, *, is_timeout: bool) -> None:
        super().__init__(message)
        self.state = state
        self.is_timeout = is_timeout


class Operation(OperationFolder):
    """One operation: look at it, and ask it to pause, resume or cancel."""

    def view(self) -> StateView:
        """What `state.json` says; what is derived from the other files where that says nothing valid.

        Raises:
            OperationUnknown: the operation is gone.
        """
        view = self.state_file.read().view
        if view is not None and view.state is not None:
            return view
        self.reconcile()
        view = self.state_file.read().view
        if view is not None and view.state is not None:
            return view
        state = self.journal.last_state() or State.QUEUED
        return StateView(want="run", state=state.value)

    @property
    def state(self) -> State:
        """What is true now, as far as `state.json` says."""
        return State(self.view().state or State.QUEUED)

    def epoch(self) -> int:
        """Which run this is, from 1."""
        return max(self.view().epoch, 1)

    def ready(self) -> bool:
        """Say whether it has ended."""
        return self.state in FINAL

    def successful(self) -> bool:
        """Say whether it has succeeded."""
        return self.state is State.SUCCEEDED

    @property
    def result(self) -> Json:
        """The last step's result; raises `OperationFailed` after an end without one, `TapfsError` before the end."""
        state = self.state
        if state is State.SUCCEEDED:
            try:
                return json.loads(files.read_bytes(self.layout.result, LARGE))
            except ValueError as error:
                raise RecordInvalid(str(self.layout.result), (str(error),)) from None
            except FileNotFoundError:
                raise RecordInvalid(str(self.layout.result), ("it is not there",)) from None
            except files.NotAFile as error:
                raise RecordInvalid(str(self.layout.result), (str(error.strerror),)) from None
        failure = self.failure()
        if state in FINAL:
            text = f": {failure.type}: {failure.message}" if failure else ""
            raise OperationFailed(f"operation '{self.id}' has no result: it is {state}{text}", state, failure)
        raise TapfsError(f"operation '{self.id}' has no result yet: it is {state}")

    def failure(self) -> Failure | None:
        """What `error.json` says; None when nothing failed."""
        try:
            return Failure.read(self.layout.error, LARGE)
        except FileNotFoundError:
            return None

    def get(self, timeout: float | None = None) -> Json:
        """Wait for the end and return the result, as AsyncResult does.

        Args:
            timeout: seconds; 0 looks once; None waits for ever.

        Raises:
            OperationFailed: it failed or was cancelled.
            WaitedInVain: time was up.
        """
        self._wait(lambda state: state in FINAL, "its end", timeout)
        return self.result

    def wait(self, state: str = "succeeded", timeout_s: float | None = None) -> None:
        """Block until the operation is in that state.

        Args:
            state: any state.
            timeout_s: seconds; 0 looks once; None waits for ever.

        Raises:
            WaitedInVain: time was up, or it has ended in another state.
            TapfsError: there is no such state.
        """
        if state not in tuple(State):
            raise TapfsError(f"'{state}' is no state", hint="states are: " + ", ".join(TABLE))
        wanted = State(state)
        self._wait(lambda now: now is wanted or now in FINAL, f"'{state}'", timeout_s)
        if self.state is not wanted:
            raise WaitedInVain(f"operation '{self.id}' is {self.state}, not {state}", self.state, is_timeout=False)

    def _wait(self, is_over: Callable[[State], bool], what: str, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not is_over(state := self.state):
            if deadline is not None and time.monotonic() >= deadline:
                text = f"operation '{self.id}' is still {state} after {timeout_s:g} s of waiting for {what}"
                raise WaitedInVain(text, state, is_timeout=True)
            time.sleep(POLL_S)
            if not files.exists(self.layout.identity):
                raise OperationUnknown(f"operation '{self.id}' is not there any more")

    def pause(self, reason: str | None = None) -> Answer:
        """Ask it to stop at its next tap; see `verbs.pause`."""
        return verbs.pause(self, reason)

    def resume(self, reason: str | None = None) -> Answer:
        """Ask it to go on; see `verbs.resume`."""
        return verbs.resume(self, reason)

    def cancel(self, reason: str | None = None) -> Answer:
        """Ask it to stop for good; see `verbs.cancel`."""
        return verbs.cancel(self, reason)

    def cancel_member(self, path: str, reason: str | None = None) -> Answer:
        """Give up one member of a group; see `members.cancel_member`."""
        return cancel_member(self, path, reason)

    def retry(self, path: str | None = None, reason: str | None = None) -> Answer:
        """Do again what failed; see `again.retry`."""
        return again.retry(self, path, reason)

    def rewind(self, path: str, reason: str | None = None) -> Answer:
        """Go back to a step; see `again.rewind`."""
        return again.rewind(self, path, reason)

    def answer(self, given: Mapping[str, Json], gate: str | None = None) -> Answer:
        """Answer a gate at which it waits; see `answering.answer`."""
        return answering.answer(self, given, gate)

    def force(self, grace_s: float = GRACE_S) -> Answer:
        """End the processes of steps that were asked to stop and do not come to a tap; see `force.force`."""
        return force(self, grace_s)

    def reconcile(self) -> Settled:
        """Bring its files in line and publish what follows."""
        return reconcile(self)
