"""The bar of `tapfs run`."""

import io
from typing import Any

import pytest
from rich.console import Console

from tapfs.bus.states import State
from tapfs.cli.display import bar_of
from tapfs.flow.foreground import Standing
from tapfs.flow.place import Progress

WIDTHS = [40, 80, 100, 120, 200]


def line(width: int, state: State, speed: str = "", message: str | None = None, **progress: Any) -> str:
    far = Progress(**{"done": 10_900_000, "total": 31_200_000, "unit": "bytes", **progress})
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(bar_of(Standing(state, "0002-count", 1, 3, message, far), speed, width))
    (text,) = captured.get().splitlines()
    return text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.FAILED, State.INTERRUPTED])
def test_every_width_shows_state_and_per_cent_in_one_line(state: State, width: int) -> None:
    text = line(width, state, message="held by PAUSE: " + "lunch " * 20)
    assert text.startswith(state.value)
    assert "34 %" in text
    assert len(text.rstrip()) <= width - 3, "no room for ^C"


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_a_bar_shows_how_far_why_and_how_fast(width: int) -> None:
    running = line(width, State.RUNNING, ", 12.1 MB/s")
    assert "0002-count (1/3)" in running
    assert "10.9 MB of 31.2 MB (34 %), 12.1 MB/s" in running
    assert "━" in line(width, State.PAUSED, message="held by PAUSE")


def test_a_held_step_says_why_where_there_is_room() -> None:
    assert "held by PAUSE" in line(100, State.PAUSED, message="held by PAUSE")


@pytest.mark.parametrize("state", [State.PAUSED, State.RUNNING])
def test_a_step_that_says_nothing_of_its_progress_has_a_bar_without_numbers(state: State) -> None:
    text = line(80, state, done=None, total=None)
    assert "━" in text
    assert "%" not in text
