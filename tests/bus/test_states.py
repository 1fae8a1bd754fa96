"""The table of the design, pair by pair."""

from itertools import product

import pytest

from tapfs.bus.states import FINAL, TABLE, State, Want, check_transition, route
from tapfs.errors import Refused

#: Design, section 5, typed anew: from, and all that may follow.
DESIGN = """
queued       running pausing paused cancelled failed
running      succeeded failed pausing cancelling interrupted waiting
pausing      paused running cancelling succeeded failed
paused       running cancelled
interrupted  running pausing cancelling failed
cancelling   cancelled succeeded failed
waiting      running paused cancelled failed
failed       running
cancelled    running
succeeded    running
"""
ALLOWED = {(before, after) for before, *row in map(str.split, DESIGN.strip().splitlines()) for after in row}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_pair_is_allowed_if_it_is_in_the_table_and_else_refused_with_both_states(before: State, after: State) -> None:
    """B107."""
    if (before, after) in ALLOWED:
        check_transition(before, after)
        return
    with pytest.raises(Refused, match=f"an operation that is {before} cannot become {after}") as caught:
        check_transition(before, after)
    assert caught.value.hint is not None
    assert all(f"{following}" in caught.value.hint for following in TABLE[before])


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_route_takes_only_listed_transitions_and_passes_through_no_final_state(before: State, after: State) -> None:
    try:
        way = route(before, after)
    except Refused:
        is_taken_back = before is State.CANCELLING and after not in FINAL
        assert after is State.QUEUED or is_taken_back, "nothing else is out of reach"
        return
    assert way == () if before is after else way[-1] is after
    assert not FINAL & set(way[:-1])
    assert all(pair in ALLOWED for pair in zip((before, *way), way, strict=False))


@pytest.mark.parametrize(
    ("before", "after", "way"),
    [
        (State.RUNNING, State.PAUSED, "pausing paused"),
        (State.RUNNING, State.CANCELLED, "cancelling cancelled"),
        (State.QUEUED, State.SUCCEEDED, "running succeeded"),
        (State.PAUSED, State.INTERRUPTED, "running interrupted"),
        (State.INTERRUPTED, State.CANCELLED, "cancelling cancelled"),
        (State.FAILED, State.PAUSED, "running pausing paused"),
    ],
)
def test_a_route_is_the_shortest(before: State, after: State, way: str) -> None:
    assert " ".join(route(before, after)) == way


def test_nothing_leads_back_to_queued() -> None:
    for before in set(State) - {State.QUEUED}:
        with pytest.raises(Refused, match=f"{before} cannot become queued"):
            route(before, State.QUEUED)


def test_every_state_has_a_way_out() -> None:
    assert set(TABLE) == set(State)
    assert all(TABLE.values())


def test_every_state_that_is_not_final_can_be_cancelled() -> None:
    assert all(route(state, State.CANCELLED) for state in set(State) - FINAL)


def test_cancel_is_stronger_than_pause_and_pause_than_run() -> None:
    assert sorted(Want, key=lambda want: want.strength) == [Want.RUN, Want.PAUSE, Want.CANCEL]
