"""`run.json`: read, and made anew from the other files where it was lost or spoilt. Under the operation's lock."""

from __future__ import annotations

from tapfs.bus import files
from tapfs.bus.folder import OperationFolder
from tapfs.bus.records import Run
from tapfs.bus.states import FINAL, State, Want
from tapfs.errors import OperationUnknown, RecordInvalid

#: What must have been asked, where nothing but the state is known; with markers, too: better held than let go.
_HELD = {State.PAUSING: Want.PAUSE, State.PAUSED: Want.PAUSE, State.CANCELLING: Want.CANCEL}


def read_run(operation: OperationFolder) -> Run:
    """Read `run.json`; if it is gone or spoilt, set it aside and make it anew from what the other files say."""
    try:
        return Run.read(operation.layout.run)
    except FileNotFoundError:
        if not files.exists(operation.layout.identity):  # the operation was removed, and stays so
            raise OperationUnknown(f"operation '{operation.id}' is not there any more") from None
    except RecordInvalid:
        files.set_aside(operation.layout.run, operation.layout.run)
    return _rebuilt_run(operation)


def _rebuilt_run(operation: OperationFolder) -> Run:
    epoch, started_at = 0, None
    for entry in operation.journal.entries():
        epoch = max(epoch, entry.get("epoch") or 0)
        if entry.get("to") == State.RUNNING and started_at is None:
            started_at = entry.get("at")
    last = operation.journal.last_state()
    ended = last in FINAL or last is State.PAUSED
    view = operation.state_file.read().view
    held = _HELD.get(last, Want.RUN) if last else Want.RUN
    run = Run(
        epoch=max(epoch, 1) if ended else epoch + 1,
        outcome=last if ended else None,
        started_at=started_at,
        want=view.want if view and held is not Want.CANCEL else held,
        reason=view.reason if view else None,
        notice="run.json was lost or spoilt; it was made anew from the other files",
    )
    files.replace(operation.layout.run, run.encode())
    return run
