"""The view: what `state.json` says of what is true, the message in it, and when it must be written."""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.fields import near
from tapfs.bus.folder import OperationFolder
from tapfs.bus.layout import CANCEL, KNOWN, PAUSE
from tapfs.bus.plan import Plan
from tapfs.bus.progress import Standing
from tapfs.bus.records import LARGE, Failure, Run, StateView
from tapfs.bus.requests import markers
from tapfs.bus.statefile import Reading
from tapfs.bus.states import FINAL, State
from tapfs.errors import RecordInvalid

#: Seconds between two writes of `state.json` while nothing but the step moves.
VIEW_INTERVAL_S = 1.0
#: The most files that are hinted at, ever, in one operation.
MOST_HINTS = 10
#: A longer name is no misspelt marker.
_LONGEST_STRAY = 20
#: The most characters of a message: it must fit into `state.json`, whatever people have written.
_LONGEST_MESSAGE = 4000
#: The most members that are named.
_MOST_NAMED = 5


def view_of(
    operation: OperationFolder, plan: Plan, state: State, run: Run, standing: Standing, said: tuple[str, ...] = ()
) -> StateView:
    """Write down what is true; `said` is what gates tell, and what keeps steps from being run."""
    step = standing.open[0].label if standing.open else None
    return StateView(
        want=run.want,
        reason=run.reason,
        state=state.value,
        step=step,
        steps_done=standing.done,
        steps_total=len(plan.steps),
        epoch=run.epoch,
        message=_message(operation, run, state, standing, said),
        updated_at=timestamp(operation.now()),
    )


def _message(
    operation: OperationFolder, run: Run, state: State, standing: Standing, said: tuple[str, ...]
) -> str | None:
    """What a person should read: which marker holds it, what became of their edit, what keeps it from going on."""
    parts: list[str] = []
    if run.is_failing:
        parts.append(f"{_failure(operation)}; it has failed when what still runs has ended")
    if standing.given_up:
        named = ", ".join(standing.given_up[:_MOST_NAMED]) + (", ..." if len(standing.given_up) > _MOST_NAMED else "")
        parts.append(f"given up: {len(standing.given_up):,} ({named})")
    if state not in FINAL:
        asked = markers(operation.control, operation.layout)
        parts += [f"held by {marker.source}" + (f": {marker.reason}" if marker.reason else "") for marker in asked]
        parts += said
    elif state is State.FAILED:
        parts.insert(0, _failure(operation))
    if run.notice:
        parts.append(run.notice)
    try:
        operation.plan()
    except FileNotFoundError:
        parts.append("nothing can be run: workflow.json is missing; put the file back, or cancel")
    except RecordInvalid as error:
        parts.append(f"nothing can be run: {error}; put the file back, or cancel")
    return "; ".join(part for part in parts if part)[:_LONGEST_MESSAGE] or None


def _failure(operation: OperationFolder) -> str:
    try:
        failure = Failure.read(operation.layout.error, LARGE)
    except (FileNotFoundError, RecordInvalid):
        return ""
    return f"{failure.step}: {failure.type}: {failure.message}"[:500]


def is_due(view: StateView, reading: Reading) -> bool:
    """Whether the view must be written, given what is there; moving steps alone wait for their second."""
    if not reading.is_settled:
        return False
    there = reading.view
    if there is None:
        return True
    timeless = replace(view, updated_at=there.updated_at)
    if timeless == there:
        return False
    unmoved = replace(timeless, step=there.step, steps_done=there.steps_done)
    if unmoved != there:
        return True
    written = seconds_of(there.updated_at) or 0.0
    return abs((seconds_of(view.updated_at) or 0.0) - written) >= VIEW_INTERVAL_S


def strays(operation: OperationFolder) -> list[tuple[str, str]]:
    """Return the files in the operation's folder that look like a misspelt marker, each with the marker meant."""
    found = []
    for path in operation.layout.folder.iterdir():
        name = path.name
        if name in KNOWN or name.startswith((".", "state.json", "run.json")):
            continue
        word = name.partition(".")[0]
        meant = near(word, {PAUSE.lower(): 0, CANCEL.lower(): 0, "stop": 0}) if len(name) <= _LONGEST_STRAY else ""
        if meant:
            found.append((name, CANCEL if "cancel" in meant else PAUSE))
        if len(found) >= MOST_HINTS:
            break
    return sorted(found)
