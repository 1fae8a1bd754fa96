"""The pace of a step."""

from tapfs.bus.states import State
from tapfs.cli.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_pace_counts_only_the_time_in_which_the_step_runs() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(State.RUNNING, "0001-count", 0)
    clock.now = 2.0
    pace.note(State.RUNNING, "0001-count", 200)
    clock.now = 1000.0
    pace.note(State.PAUSED, "0001-count", None)
    assert pace.told(400, "rows") == ", 100 rows/s, 2.0 s to go"


def test_pace_is_not_told_before_it_is_known() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(State.RUNNING, "0001-count", 0)
    clock.now = 0.5
    pace.note(State.RUNNING, "0001-count", 100)
    assert pace.told(400, "rows") == ""


def test_each_step_has_its_own_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(State.RUNNING, "0001-count", 0)
    clock.now = 2.0
    pace.note(State.RUNNING, "0001-count", 200)
    pace.note(State.RUNNING, "0002-save", 0)
    assert pace.told(None, None) == ""
    clock.now = 4.0
    pace.note(State.RUNNING, "0002-save", 3_000_000)
    assert pace.told(None, "bytes") == ", 1.5 MB/s"


def test_a_step_that_is_asked_to_stop_works_on_until_its_tap() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.note(State.RUNNING, "0001-count", 0)
    clock.now = 2.0
    pace.note(State.PAUSING, "0001-count", 200)
    assert pace.told(None, "rows") == ", 100 rows/s"
