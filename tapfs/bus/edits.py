"""Edits of `state.json`: what people asked there is taken into `run.json`, also where their file was displaced."""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus import files
from tapfs.bus.folder import OperationFolder
from tapfs.bus.history import tell_of_rejected
from tapfs.bus.records import Run
from tapfs.bus.statefile import Displaced, Reading
from tapfs.bus.states import FINAL, Want


def bring_back(
    operation: OperationFolder, run: Run, reading: Reading, edits: list[Displaced]
) -> tuple[str, str | None] | None:
    """Give edits that tapfs displaced their place again: the newest goes into `state.json`, where it is taken in.

    Each is journaled. Returns the want and reason that were brought back, if any were.

    The file first, then the note that the edit was seen: a process that dies in between leaves it to be found again.
    """
    asked = [found for found in operation.state_file.edits(reading, edits) if found.view is not None]
    newest = asked[-1] if asked else reading
    if newest is not reading and newest.view is not None:
        base = reading.view or newest.view
        name = operation.state_file.put(replace(base, want=newest.view.want, reason=newest.view.reason), reading)
        if name is not None:
            tell_of_rejected(operation, name, reading)
    if newest is reading:
        asked = asked[:-1]  # taken in, and journaled, where it stands
    for view in (found.view for found in asked if found.view is not None):
        operation.note("asked", "file:state.json", want=view.want, reason=view.reason, epoch=run.epoch)
    for edit in edits:
        files.sync_file(edit.path)
        name = operation.state_file.acknowledge(edit)
        if name is not None:
            tell_of_rejected(operation, name, edit.reading)
    return None if newest is reading or newest.view is None else (newest.view.want, newest.view.reason)


def take_in(run: Run, reading: Reading, asked_by: str) -> tuple[Run, str | None]:
    """Accept what `state.json` asks. Returns the run, and who asked if anything was; both for the journal."""
    view = reading.view
    if view is None or (view.want, view.reason) == (run.want, run.reason):
        return run, None
    if run.outcome in FINAL:
        notice = f"it has already {_ended(run.outcome)}: 'want: {view.want}' changes nothing"
        return replace(run, notice=notice), None
    if run.want == Want.CANCEL:
        return replace(run, notice=f"it is being cancelled, which 'want: {view.want}' cannot take back"), None
    return replace(run, want=view.want, reason=view.reason, asked_by=asked_by, notice=None), asked_by


def _ended(outcome: str | None) -> str:
    return {"cancelled": "been cancelled"}.get(outcome or "", outcome or "ended")
