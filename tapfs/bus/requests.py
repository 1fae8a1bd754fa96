"""What is asked of an operation: the want of its `state.json`, its markers, and the bus's own marker.

Markers are levels, not events: while one is there it is asked, whatever it is (also a folder or a link: existence is
the request, a text only the reason). The strongest request is in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.fields import Faulty
from tapfs.bus.layout import CANCEL, PAUSE, ControlLayout, OperationLayout
from tapfs.bus.records import LONGEST_REASON, Run
from tapfs.bus.statefile import StateFile
from tapfs.bus.states import Want

#: Bytes of a marker that are read for its reason.
_MARKER_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Request:
    """One request, and who or what makes it.

    Attributes:
        want: what is asked.
        reason: why, as given; None for no reason.
        source: `state.json`, `PAUSE`, `CANCEL` or `control/PAUSE`.
        by: for the journal: `file:PAUSE`, `cli:ada`, ...
    """

    want: Want
    reason: str | None
    source: str
    by: str


def markers(control: ControlLayout, layout: OperationLayout) -> list[Request]:
    """Return what the markers ask for."""
    found = []
    for path, want, source in (
        (layout.folder / CANCEL, Want.CANCEL, CANCEL),
        (layout.folder / PAUSE, Want.PAUSE, PAUSE),
        (control.pause, Want.PAUSE, "control/PAUSE"),
    ):
        if files.exists(path):
            found.append(Request(want, text_of_marker(path), source, f"file:{source}"))
    return found


def own(run: Run) -> Request:
    """Return what the operation's own `want` asks for, as last accepted."""
    return Request(Want(run.want), run.reason, "state.json", run.asked_by or "file:state.json")


def strongest(requests: list[Request]) -> Request:
    """Return the request in force: cancel over pause over run, the first of equals."""
    return max(requests, key=lambda request: request.want.strength)


def in_force(control: ControlLayout, layout: OperationLayout) -> Request:
    """Say what is asked right now, without the lock and without taking anything in: for a tap.

    A `state.json` that says nothing valid, at the moment or for good, counts as what was last accepted.

    Raises:
        OSError: that cannot be seen; which is not the same as nothing being asked.
    """
    try:
        run = Run.decode(files.read_bytes(layout.run, _MARKER_LIMIT))
    except (FileNotFoundError, files.NotAFile, Faulty):
        run = Run(epoch=1)
    request = own(run)
    state_file = StateFile(layout)
    displaced = state_file.displaced_edits()
    for reading in state_file.edits(state_file.read(), displaced):
        view = reading.view
        if view is not None and (view.want, view.reason) != (request.want, request.reason):
            request = Request(Want(view.want), view.reason, "state.json", "file:state.json")
    return strongest([request, *markers(control, layout)])


def text_of_marker(path: Path) -> str | None:
    """Return a marker's text as one line, for people; None where it has none or cannot be read."""
    try:
        text = files.read_bytes(path, _MARKER_LIMIT).decode("utf-8", "replace")
    except OSError:
        return None
    plain = "".join(mark if mark.isprintable() else " " for mark in text)
    return " ".join(plain.split())[:LONGEST_REASON] or None
