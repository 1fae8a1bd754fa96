"""`tapfs result`: what an operation came to."""

from __future__ import annotations

import click

from tapfs.cli.controls import open_control
from tapfs.cli.options import id_argument, json_option
from tapfs.cli.printing import print_json


@click.command("result")
@id_argument
@json_option("Print errors as JSON too; the result always is.")
def result_verb(part: str, is_json: bool) -> None:
    """Print an operation's result as JSON.

    Exit code 1 when there is none: it has not ended, failed or was cancelled.
    """
    print_json(open_control().find(part).result)
