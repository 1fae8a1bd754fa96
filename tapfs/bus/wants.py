"""Writing a want into `state.json`, as an editor would."""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus.folder import OperationFolder
from tapfs.bus.records import StateView
from tapfs.bus.runs import read_run
from tapfs.bus.statefile import Reading
from tapfs.bus.states import Want


def write_want(operation: OperationFolder, want: Want, reason: str | None) -> None:
    """Put the want into `state.json`, under the operation's lock.

    An edit there that nobody has taken in yet, or that is in the making, is displaced as such: whoever settles finds
    it, and it takes the place of this want; who must be heard writes again after that.
    """
    run = read_run(operation)
    seen = operation.state_file.read()
    view = seen.view or StateView(want=want)
    is_taken_in = seen.view is not None and (view.want, view.reason) == (run.want, run.reason)
    asked = replace(view, want=want.value, reason=reason)
    operation.state_file.put(asked, seen if is_taken_in or seen.is_missing else Reading())
