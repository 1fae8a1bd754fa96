"""Tables that fit a terminal."""

import io
import sys
from collections.abc import Callable

import click
import pytest

from tapfs.cli.printing import Column, fitted, print_table
from tapfs.cli.verbs.list import _COLUMNS as COLUMNS
from tapfs.cli.verbs.list import _HEADS as HEADS

ID = "20261122-101502-tally-k7f3q2"
ROW = (
    ID,
    "interrupted",
    "1/3",
    "100 %",
    "12 min 05 s",
    "ada",
    "path=data/people.csv by=company",
    "held by PAUSE: lunch",
)
WIDTHS = [max(len(head), len(text)) for head, text in zip(HEADS, ROW, strict=True)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def print_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[list[str], list[str]]]:
    """Print the row to a terminal of that width; gives its lines, and the columns that were left out."""

    def call(width: int) -> tuple[list[str], list[str]]:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            patch.setenv("COLUMNS", str(width))
            patch.setenv("TERM", "xterm")
            missing = print_table(COLUMNS, [ROW])
        return click.unstyle(terminal.getvalue()).splitlines(), missing

    return call


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_no_width_takes_away_id_state_or_steps(
    print_at: Callable[[int], tuple[list[str], list[str]]], width: int
) -> None:
    (head, row), missing = print_at(width)
    assert head.split() == [name for name in HEADS if name not in missing]
    assert row.split()[:3] == [ID, "interrupted", "1/3"]
    assert len(row.rstrip()) <= max(width, len(f"{ID}  interrupted  STEPS"))


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (80, {"OWNER", "RAN", "PROGRESS", "ARGUMENTS"}),
        (100, {"OWNER", "RAN"}),
        (110, {"OWNER"}),
        (120, set()),
    ],
)
def test_the_message_is_whole_in_any_usual_terminal(
    print_at: Callable[[int], tuple[list[str], list[str]]], width: int, missing: set[str]
) -> None:
    (_, row), left_out = print_at(width)
    assert "held by PAUSE: lunch" in row
    assert set(left_out) == missing


@pytest.mark.parametrize("room", range(0, 240, 7))
def test_what_is_shown_fits_and_no_column_has_no_width(room: int) -> None:
    shown = fitted(COLUMNS, WIDTHS, room)
    assert all(width > 0 for width in shown.values())
    may_leave = {place for place, column in enumerate(COLUMNS) if column.leaves is not None}
    assert sum(shown.values()) + 2 * (len(shown) - 1) <= room or not may_leave & shown.keys()


def test_spare_room_goes_to_the_message_before_the_arguments() -> None:
    columns = (Column("ARGUMENTS", least=10, leaves=1), Column("MESSAGE", least=10, leaves=2))
    assert fitted(columns, [40, 40], 62) == {0: 20, 1: 40}
    assert fitted(columns, [40, 40], 30) == {0: 10, 1: 18}
    assert fitted(columns, [40, 40], 20) == {1: 20}
