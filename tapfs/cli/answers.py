"""What verbs answered, for several operations at once: printed, and turned into one exit code."""

from __future__ import annotations

from dataclasses import dataclass

import click

from tapfs.bus.verbs import Answer
from tapfs.cli.exits import DONE, FAILED, TIMED_OUT
from tapfs.cli.printing import print_json, say


@dataclass(frozen=True)
class Reply:
    """One answer, with what to do next, and whether time was up while waiting for it."""

    answer: Answer
    hint: str | None = None
    is_timeout: bool = False


def line_of(answer: Answer) -> str:
    """An answer in a line: `20261122-101502-tally-k7f3q2: paused`."""
    is_plain = answer.message == answer.state or answer.message.startswith(f"{answer.state}:")
    return f"{answer.operation_id}: {answer.message if is_plain else f'{answer.state}: {answer.message}'}"


def _named(answer: Answer) -> str:
    """The message, with the operation's id where it does not speak of it."""
    return answer.message if answer.operation_id in answer.message else f"{answer.operation_id}: {answer.message}"


def print_replies(replies: list[Reply], *, is_json: bool, is_array: bool) -> None:
    """Print every answer: what was done to stdout, what was not to stderr.

    With JSON all are on stdout, one object, or an array where several were asked.
    """
    if is_json:
        documents = [reply.answer.document() for reply in replies]
        print_json(documents if is_array else documents[0])
        return
    for reply in replies:
        if reply.answer.success:
            click.echo(line_of(reply.answer))
            if reply.hint:
                click.echo(f"hint: {reply.hint}", err=True)
        else:
            say(_named(reply.answer), reply.hint)


def exit_code_of(replies: list[Reply]) -> int:
    """0 when all went well, 3 when the only trouble was that time was up, else 1."""
    failed = [reply for reply in replies if not reply.answer.success]
    if not failed:
        return DONE
    return TIMED_OUT if all(reply.is_timeout for reply in failed) else FAILED
