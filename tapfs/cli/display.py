"""The display of an operation that runs in this process, on stderr: a bar in a terminal, else a line at each change."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

import click

from tapfs.bus.states import State
from tapfs.cli import words
from tapfs.cli.pace import Pace
from tapfs.cli.printing import STATE_COLOURS, console
from tapfs.errors import TapfsError

if TYPE_CHECKING:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    from tapfs.flow.foreground import Foreground, Standing

#: Seconds between two looks.
_POLL_S = 0.1
#: Cells that stay free at the end of a line: the terminal writes `^C` there, and a broken line could not be redrawn.
_MARGIN = 4
#: The widest bar, and one below which there is none, in cells.
_WIDEST_BAR, _NARROWEST_BAR = 30, 6

#: Takes a line to be shown between the others; may be called in a signal handler.
Tell = Callable[[str], None]


@contextmanager
def display(running: Foreground) -> Iterator[Tell]:
    """Show how the operation stands, from a thread, until the block ends; gives what shows a line more."""
    over = threading.Event()
    # The one queue that a signal handler may put into.
    notes: SimpleQueue[str] = SimpleQueue()
    show = _show_bar if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=show, args=(running, over, notes), name="tapfs-display", daemon=True)
    thread.start()
    try:
        yield notes.put
    finally:
        over.set()
        thread.join(timeout=5)


def _follow(
    running: Foreground, over: threading.Event, notes: SimpleQueue[str], say: Tell, tell: Callable[[Standing], None]
) -> None:
    """Look again and again, and once more at the end; what cannot be read at one moment is at the next."""
    is_last = False
    while not is_last:
        is_last = over.wait(_POLL_S)
        while not notes.empty():
            say(notes.get())
        with suppress(TapfsError, OSError):
            tell(running.standing())


def _show_lines(running: Foreground, over: threading.Event, notes: SimpleQueue[str]) -> None:
    """Write a line whenever the state changes, for a log."""
    last: list[State] = []

    def say(line: str) -> None:
        click.echo(line, err=True)

    def tell(standing: Standing) -> None:
        if [standing.state] != last:
            last[:] = [standing.state]
            say(line_of(standing))

    _follow(running, over, notes, say, tell)


def line_of(standing: Standing) -> str:
    """How an operation stands in one line: `paused: held by PAUSE: lunch, 1 of 3 steps`."""
    because = f": {words.plain(standing.message)}" if standing.message else ""
    return f"{standing.state}{because}, {standing.steps_done} of {standing.steps_total} steps"


def _show_bar(running: Foreground, over: threading.Event, notes: SimpleQueue[str]) -> None:
    """Draw a bar for the step at hand."""
    from rich.live import Live
    from rich.text import Text

    pace = Pace()
    screen = console(to_stderr=True)
    with Live(console=screen, refresh_per_second=10) as live:

        def say(line: str) -> None:
            live.console.print(Text(line))

        def tell(standing: Standing) -> None:
            progress = standing.progress
            pace.note(standing.state, standing.step, progress.done)
            speed = pace.told(progress.total, progress.unit) if standing.state is State.RUNNING else ""
            live.update(bar_of(standing, speed, screen.width))

        _follow(running, over, notes, say, tell)


def bar_of(standing: Standing, speed: str, width: int) -> Table:
    """One line that fits: state and how far first, then step, bar, pace, and why it is held, as there is room.

    Args:
        standing: how the operation stands.
        speed: the step's pace, with a comma before it; empty for none.
        width: of the terminal, in cells.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    progress = standing.progress
    room = width - _MARGIN - cell_len(standing.state)

    def fits(text: str) -> str:
        """The text, with a space before it, if there is room; the room is then taken."""
        nonlocal room
        if not text or cell_len(text) + 1 > room:
            return ""
        room -= cell_len(text) + 1
        return f" {text}"

    far = words.progress(progress.done, progress.total, progress.unit) or ""
    told = fits(far)
    if far and not told and progress.done is not None and progress.total:
        told = fits(f"{words.percentage(progress.done, progress.total)} %")
    counts = f"({standing.steps_done}/{standing.steps_total})"
    step = fits(f"{words.plain(standing.step)} {counts}" if standing.step else counts) or fits(counts)
    speed = speed if told and cell_len(speed) <= room else ""
    room -= cell_len(speed)
    held = standing.message if standing.state in (State.PAUSED, State.PAUSING, State.WAITING) else None
    bar = min(_WIDEST_BAR, (room // 2 if held else room) - 1)
    bar = bar if bar >= _NARROWEST_BAR else 0
    room -= bar + 1 if bar else 0
    why = f" {words.shortened(words.plain(held), min(60, room - 1))}" if held and room > 10 else ""

    line = Table.grid()
    parts: list[Text | ProgressBar] = [Text(f"{step}{why} ")] if step or why else []
    if bar:
        parts.append(_bar(standing, bar))
    parts.append(Text(f"{told}{speed}"))
    line.add_row(Text(standing.state, style=STATE_COLOURS.get(standing.state, "")), *parts)
    for column in line.columns:
        column.no_wrap = True
    return line


def _bar(standing: Standing, width: int) -> ProgressBar:
    """How far the step has come; how many steps are done where it does not say, and nothing runs."""
    from rich.progress_bar import ProgressBar

    progress = standing.progress
    if progress.done is None and standing.state is not State.RUNNING:
        return ProgressBar(total=standing.steps_total, completed=standing.steps_done, width=width)
    # Without a total the bar only shows that something moves; what is held does not move.
    is_moving = not progress.total and standing.state is State.RUNNING
    total = progress.total or max(progress.done or 0, 1)
    return ProgressBar(total=None if is_moving else total, completed=progress.done or 0, width=width)
