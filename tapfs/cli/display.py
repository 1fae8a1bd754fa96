"""The display of an operation that runs in this process, on stderr: a bar in a terminal, else a line at each change."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from tapfs.bus.states import State
from tapfs.cli import words
from tapfs.cli.pace import Pace
from tapfs.cli.printing import STATE_COLOURS, console
from tapfs.errors import TapfsError

if TYPE_CHECKING:
    from tapfs.flow.foreground import Foreground, Standing

#: Seconds between two looks.
_POLL_S = 0.1


@contextmanager
def display(running: Foreground) -> Iterator[None]:
    """Show how the operation stands, from a thread, until the block ends."""
    over = threading.Event()
    show = _show_bar if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=show, args=(running, over), name="tapfs-display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def _follow(running: Foreground, over: threading.Event, tell: Callable[[Standing], None]) -> None:
    """Look again and again, and once more at the end; what cannot be read at one moment is at the next."""
    is_last = False
    while not is_last:
        is_last = over.wait(_POLL_S)
        with suppress(TapfsError, OSError):
            tell(running.standing())


def _show_lines(running: Foreground, over: threading.Event) -> None:
    """Write a line whenever the state changes, for a log."""
    last: list[State] = []

    def tell(standing: Standing) -> None:
        if [standing.state] != last:
            last[:] = [standing.state]
            click.echo(line_of(standing), err=True)

    _follow(running, over, tell)


def line_of(standing: Standing) -> str:
    """How an operation stands in one line: `paused: held by PAUSE: lunch, 1 of 3 steps`."""
    because = f": {words.plain(standing.message)}" if standing.message else ""
    return f"{standing.state}{because}, {standing.steps_done} of {standing.steps_total} steps"


def _show_bar(running: Foreground, over: threading.Event) -> None:
    """Draw a bar for the step at hand."""
    from rich.progress import BarColumn, Progress, TextColumn

    pace = Pace()
    columns = ("[progress.description]{task.description}", BarColumn(bar_width=30), TextColumn("{task.fields[far]}"))
    with Progress(*columns, console=console(to_stderr=True), refresh_per_second=10) as bar:
        task = bar.add_task("", total=None, far="")

        def tell(standing: Standing) -> None:
            progress = standing.progress
            pace.note(standing.state, standing.step, progress.done)
            far = words.progress(progress.done, progress.total, progress.unit) or ""
            is_unknown = progress.done is None and standing.state is not State.RUNNING
            bar.update(
                task,
                description=_described(standing),
                completed=standing.steps_done if is_unknown else progress.done or 0,
                far=far + pace.told(progress.total, progress.unit),
            )
            # `update` takes None for no change; here it means that the bar only shows that something moves.
            bar.tasks[0].total = standing.steps_total if is_unknown else progress.total

        _follow(running, over, tell)


def _described(standing: Standing) -> str:
    """State and step as rich markup; and why, where it is held."""
    from rich.markup import escape

    colour = STATE_COLOURS.get(standing.state, "default")
    step = f"{standing.step} " if standing.step else ""
    held = standing.message if standing.state in (State.PAUSED, State.PAUSING) else None
    why = f" {words.shortened(held, 60)}" if held else ""
    told = escape(words.plain(f"{step}({standing.steps_done}/{standing.steps_total}){why}"))
    return f"[{colour}]{standing.state}[/] {told}"
