"""Writing a want into `state.json`, as an editor would."""

from __future__ import annotations

import time
from dataclasses import replace

from tapfs.bus.folder import OperationFolder
from tapfs.bus.records import StateView
from tapfs.bus.statefile import OPEN_SETTLE_S
from tapfs.bus.states import Want

_POLL_S = 0.02


def write_want(operation: OperationFolder, want: Want, reason: str | None) -> None:
    """Put the want into `state.json`, under the operation's lock; an edit in the making is let settle first."""
    state_file = operation.state_file
    deadline = time.monotonic() + OPEN_SETTLE_S + 1.0
    reading = state_file.read()
    while not reading.is_settled and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        reading = state_file.read()
    view = reading.view or StateView(want=want)
    state_file.put(replace(view, want=want.value, reason=reason), reading)
