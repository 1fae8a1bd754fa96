"""What several verbs take: an operation's id, a reason, `--json`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from tapfs.bus.states import State

_JSON = "tapfs.json"


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """Remember the wish where the place that prints errors finds it."""
    ctx.find_root().meta[_JSON] = value
    return value


def asks_for_json(ctx: click.Context) -> bool:
    """Say whether the verb was called with `--json`."""
    return bool(ctx.find_root().meta.get(_JSON))


def json_option(text: str) -> Callable[[Any], Any]:
    """The option `--json`; `text` says what is printed then."""
    return click.option("--json", "is_json", is_flag=True, is_eager=True, callback=_note_json, help=text)


#: The words for states, for options that take one.
STATES = click.Choice([state.value for state in State])
#: The same, for their help.
STATE_NAMES = ", ".join(STATES.choices)

id_argument = click.argument("part", metavar="ID")
ids_argument = click.argument("parts", metavar="[ID]...", nargs=-1)
reason_option = click.option("--reason", metavar="TEXT", help="Why; shown and kept in the journal.")


class Seconds(click.FloatRange):
    """A number of seconds, from 0 on; `nan` and `inf` would never be over."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Turn a word into seconds."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no finite number of seconds", param, ctx)
        return seconds


def timeout_option(text: str) -> Callable[[Any], Any]:
    """The option `--timeout`, in seconds."""
    return click.option("--timeout", "timeout_s", metavar="SECONDS", type=Seconds(), help=text)


def wait_option(text: str) -> Callable[[Any], Any]:
    """The option `--wait`."""
    return click.option("--wait", "is_waiting", is_flag=True, help=text)


def all_option(text: str) -> Callable[[Any], Any]:
    """The option `--all`."""
    return click.option("--all", "is_all", is_flag=True, help=text)
