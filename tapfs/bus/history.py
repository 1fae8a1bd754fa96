"""What the journal tells of a reconciliation: requests taken in, transitions, hints, edits that were set aside."""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus import files
from tapfs.bus.folder import OperationFolder
from tapfs.bus.records import Run
from tapfs.bus.requests import Request, markers, own, strongest
from tapfs.bus.runs import read_run
from tapfs.bus.statefile import Reading
from tapfs.bus.states import State, Want, route
from tapfs.bus.view import MOST_HINTS, strays
from tapfs.errors import Refused


def write_history(operation: OperationFolder, state: State | None, run: Run, by: str, asked_by: str | None) -> None:
    """Journal the request taken in, and each transition passed through since the last line; None for none."""
    journal, now = operation.journal, operation.now()
    before = journal.last_state()
    if asked_by is not None:
        journal.append(now, "asked", asked_by, before, want=run.want, reason=run.reason, epoch=run.epoch)
    if state is None or before is state:
        return
    request = _cause(operation, run, state)
    if request.source == "control/PAUSE":  # a person made it, and nobody else syncs that folder
        files.sync_dir(operation.control.folder)
    for following in _hops(before, state):
        details = {"from": before, "to": following, "reason": request.reason, "epoch": run.epoch}
        journal.append(now, "state", request.by or by, following, **details)
        before = following


def _cause(operation: OperationFolder, run: Run, state: State) -> Request:
    """Who or what is behind a transition: the request that is in force, where the state follows from one."""
    request = strongest([own(run), *markers(operation.control, operation.layout)])
    follows = state in (State.PAUSING, State.PAUSED) and request.want is Want.PAUSE
    follows = follows or (state in (State.CANCELLING, State.CANCELLED) and request.want is Want.CANCEL)
    return request if follows else replace(request, reason=None, by="")


def _hops(before: State | None, state: State) -> tuple[State, ...]:
    if before is None:
        return (state,)
    try:
        return route(before, state)
    except Refused:  # the history or run.json was written by somebody else; what is true now is still true
        return (state,)


def with_hints(operation: OperationFolder, run: Run, by: str) -> Run:
    """Mention once, in the journal, each file that looks like a misspelt request."""
    left = MOST_HINTS - len(run.hinted)
    fresh = [(name, meant) for name, meant in strays(operation) if name not in run.hinted][: max(0, left)]
    for name, meant in fresh:
        operation.note("hint", by, message=f"'{name}' asks for nothing; did you mean '{meant}'?", file=name)
    return replace(run, hinted=[*run.hinted, *(name for name, _ in fresh)]) if fresh else run


def tell_of_rejected(operation: OperationFolder, name: str, reading: Reading) -> None:
    """Say in the journal, and by `notice` in the next round's message, what was set aside and why."""
    faults = "; ".join(reading.faults) or "it was no valid state"
    text = f"your edit was set aside as {name}: {faults}; nothing was changed"[:900]
    operation.note("rejected", "file:state.json", message=text, file=name)
    files.replace(operation.layout.run, replace(read_run(operation), notice=text).encode())
