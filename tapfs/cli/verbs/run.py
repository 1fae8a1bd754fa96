"""`tapfs run`: an operation in this process, with a progress bar.

The main thread runs the steps; the display is another thread's, and only reads. A first Ctrl-C asks to pause and waits
for it, a second leaves at once: what was not saved by then is done again.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import click

from tapfs.bus.clock import seconds_of
from tapfs.bus.fields import Json
from tapfs.bus.operation import Operation
from tapfs.bus.records import Run
from tapfs.bus.states import State
from tapfs.cli import words
from tapfs.cli.apps import open_bus
from tapfs.cli.controls import shown_path
from tapfs.cli.display import Tell, display
from tapfs.cli.exits import DONE, FAILED, INTERRUPTED
from tapfs.cli.options import json_option
from tapfs.cli.printing import Column, print_json, print_table, say
from tapfs.errors import RecordInvalid, TapfsError
from tapfs.flow import foreground
from tapfs.flow.foreground import Foreground

#: Rows of a table of counts, and columns of its split.
_MOST_ROWS, _MOST_SPLIT = 10, 6
#: Characters of another result.
_LONGEST_RESULT = 2000
_STDERR = 2
_SHOW_CURSOR = "\x1b[?25h"


@click.command("run")
@click.argument("name", metavar="[OPERATION]", required=False)
@click.argument("words_given", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--resume", "part", metavar="ID", help="Go on with this operation instead of starting one.")
@json_option("Print the whole result as JSON, in place of a table.")
@click.pass_context
def run_verb(
    ctx: click.Context, name: str | None, words_given: tuple[str, ...], part: str | None, is_json: bool
) -> None:
    """Run an operation here, with a progress bar.

    No broker and no worker is needed. Ctrl-C pauses it and says how to go on; a second one leaves at once. Exit code 0
    only when it has succeeded.
    """
    if (name is None) == (part is None):
        raise click.UsageError("name an operation to start, or one to go on with by --resume ID; not both", ctx)
    bus = open_bus()
    running = foreground.start(bus, name, list(words_given)) if name else foreground.resume(bus, part or "")
    _say_how_to_pause(running.operation)
    with display(running) as tell, _Interrupts(running, tell) as interrupts:
        state = _run(running)
    if state is State.PAUSED:
        say(f"paused; go on with: tapfs run --resume {running.operation.id}")
        ctx.exit(INTERRUPTED)
    ctx.exit(_tell_of_end(running.operation, state, is_json=is_json, was_interrupted=interrupts.count > 0))


def _run(running: Foreground) -> State:
    """Run it; a task that leaves as if it were the program does not end the program.

    Ctrl-C raises nothing here, `_Interrupts` takes it: what comes is the task's own.
    """
    try:
        return running.run()
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        operation = running.operation
        step = operation.view().step
        raise TapfsError(
            f"operation '{operation.id}' was left in step {step}: the task left with {error!r}",
            hint=f"a task that fails raises an Exception; 'tapfs run --resume {operation.id}' tries the step again",
        ) from error


class _Interrupts:
    """Ctrl-C (or SIGTERM, or a closed terminal) while an operation runs: the first pauses, the second leaves."""

    def __init__(self, running: Foreground, tell: Tell) -> None:
        self.count = 0
        self._running = running
        self._tell = tell
        self._before: list[tuple[signal.Signals, object]] = []

    def __enter__(self) -> _Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before.append((number, signal.signal(number, self._interrupted)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before:
            signal.signal(number, before)  # type: ignore[arg-type]

    def _interrupted(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            self._leave()
        # No printing here: a handler may interrupt a print. The display's thread does it.
        self._tell("pausing: stops at its next tap; Ctrl-C again leaves at once")
        self._running.pause_and_stop(f"interrupted by {signal.Signals(number).name}")

    def _leave(self) -> NoReturn:
        """End this process now, with a terminal as it was: the display is not asked, and hides the cursor."""
        with suppress(OSError):
            start = _SHOW_CURSOR + "\n" if os.isatty(_STDERR) else ""
            told = f"tapfs: left at once; go on with: tapfs run --resume {self._running.operation.id}\n"
            os.write(_STDERR, (start + told).encode())
        os._exit(INTERRUPTED)


def _say_how_to_pause(operation: Operation) -> None:
    marker = shown_path(operation.path / "PAUSE")
    click.echo(f"operation {operation.id}", err=True)
    click.echo(f"pause it from another terminal: touch {marker}", err=True)
    click.echo(f"          and let it go on: rm {marker}", err=True)


def _tell_of_end(operation: Operation, state: State, *, is_json: bool, was_interrupted: bool) -> int:
    """Print what came out; returns the exit code."""
    place, span = shown_path(operation.path), words.duration(_running_s(operation))
    if state is State.SUCCEEDED:
        _print_result(operation.result, is_json=is_json)
        click.echo(f"{operation.id} succeeded in {span}: {place}", err=True)
        return DONE
    failure = operation.failure() if state is State.FAILED else None
    if failure is not None:
        where = shown_path(operation.layout.error)
        step = f" in step {failure.step}" if failure.step else ""
        say(f"operation '{operation.id}' failed{step} after {span}: {failure.type}: {failure.message}")
        click.echo(f"hint: '{where}' has the traceback; 'tapfs run --resume {operation.id}' tries again", err=True)
        return FAILED
    say(f"operation '{operation.id}' is {state} after {span}: {place}")
    return INTERRUPTED if was_interrupted else FAILED


def _running_s(operation: Operation) -> float | None:
    try:
        run = Run.read(operation.layout.run)
    except (OSError, RecordInvalid):
        return None
    since = seconds_of(run.running_since)
    return run.running_s + (0.0 if since is None else max(0.0, operation.now() - since))


def _print_result(result: Json, *, is_json: bool) -> None:
    if is_json:
        print_json(result)
    elif is_counts(result):
        _print_counts(result)
    else:
        click.echo(words.shortened(words.compact(result), _LONGEST_RESULT))


def is_counts(result: Json) -> bool:
    """Whether a result is a table of counts: `{"<by>": {"<of>": 3}}`."""
    if not isinstance(result, dict) or not result or not all(isinstance(split, dict) for split in result.values()):
        return False
    return all(type(count) is int for split in result.values() for count in split.values())


def _print_counts(result: dict[str, dict[str, int]]) -> None:
    """Print the largest groups with their split, and how many more there are."""
    sums = {by: sum(split.values()) for by, split in result.items()}
    largest = sorted(sums, key=lambda by: (-sums[by], by))[:_MOST_ROWS]
    totals: dict[str, int] = {}
    for split in result.values():
        for of, count in split.items():
            totals[of] = totals.get(of, 0) + count
    columns = sorted(totals, key=lambda of: (-totals[of], of))[:_MOST_SPLIT]
    heads = (
        Column("", least=12),
        Column("TOTAL", is_right=True),
        *(Column(words.plain(of) or "(empty)", is_right=True, leaves=-place) for place, of in enumerate(columns)),
    )
    rows = [(by or "(empty)", f"{sums[by]:,}", *(f"{result[by].get(of, 0):,}" for of in columns)) for by in largest]
    missing = print_table(heads, rows)
    if missing:
        click.echo(f"no room here for {', '.join(missing)}", err=True)
    if len(result) > len(largest):
        click.echo(f"... and {len(result) - len(largest):,} more, {sum(sums.values()):,} in all", err=True)
