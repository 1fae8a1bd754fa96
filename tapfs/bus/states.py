"""The words for what is asked and what is true, and which state may follow which.

Wants: `run`, `pause`, `cancel`, from the least to the most restrictive. States and their table are the contract of
`docs/design.md`; nothing else in tapfs decides whether one state may follow another.
"""

from __future__ import annotations

from enum import StrEnum

from tapfs.errors import Refused


class Want(StrEnum):
    """What somebody asks for; the order is that of restriction."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"

    @property
    def strength(self) -> int:
        """0 for run, 1 for pause, 2 for cancel: of several requests the strongest wins."""
        return list(Want).index(self)


class State(StrEnum):
    """What is true now."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    CANCELLING = "cancelling"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: States that end a run; only an explicit verb leads out of them.
FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
#: States in which somebody may be at work: their time counts as running time.
ACTIVE = frozenset({State.RUNNING, State.PAUSING, State.CANCELLING})

#: From each state, those that may follow it. Where a way leads over another state, the first listed is taken.
TABLE: dict[State, tuple[State, ...]] = {
    State.QUEUED: (State.RUNNING, State.PAUSING, State.PAUSED, State.CANCELLED, State.FAILED),
    State.RUNNING: (
        State.SUCCEEDED,
        State.FAILED,
        State.PAUSING,
        State.CANCELLING,
        State.INTERRUPTED,
        State.WAITING,
    ),
    State.PAUSING: (State.PAUSED, State.RUNNING, State.CANCELLING, State.SUCCEEDED, State.FAILED),
    State.PAUSED: (State.RUNNING, State.CANCELLED),
    State.INTERRUPTED: (State.RUNNING, State.PAUSING, State.CANCELLING, State.FAILED),
    State.CANCELLING: (State.CANCELLED, State.SUCCEEDED, State.FAILED),
    State.WAITING: (State.RUNNING, State.PAUSED, State.CANCELLED, State.FAILED),
    State.FAILED: (State.RUNNING,),
    State.CANCELLED: (State.RUNNING,),
    State.SUCCEEDED: (State.RUNNING,),
}


def check_transition(before: State, after: State) -> None:
    """Raise `Refused`, naming both states, unless `after` may follow `before` directly."""
    if after not in TABLE[before]:
        allowed = ", ".join(TABLE[before])
        raise Refused(
            f"an operation that is {before} cannot become {after}", hint=f"from {before} it can become: {allowed}"
        )


def route(before: State, after: State) -> tuple[State, ...]:
    """Return the states passed through from `before` to `after`, the latter last; none if they are the same.

    What two looks at the files are apart may be more than one transition: an operation seen running and then found with
    a pause asked and nothing claimed went through `pausing`. Final states are never passed through.

    Raises:
        Refused: no way leads there.
    """
    ways: list[tuple[State, ...]] = [()]
    seen = {before}
    while ways:
        way = ways.pop(0)
        here = way[-1] if way else before
        if here == after:
            return way
        if way and here in FINAL:
            continue
        for following in TABLE[here]:
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    check_transition(before, after)
    return (after,)
