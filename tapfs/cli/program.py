"""The program: its verbs, each imported when it is called for, and the one place where errors become exit codes.

Every `TapfsError` and every error of the system ends in two lines on stderr and exit code 1:

    tapfs: cannot pause operation '20261122-101502-tally-k7f3q2': it has already succeeded
    hint: finished operations do not change; 'tapfs list --active' shows those that can

With `--json` they are one JSON object on stderr, so that stdout holds the document asked for or nothing:

    {"error": {"message": "cannot pause ...", "hint": "finished operations ..."}}

Faults of the command line itself stay Click's own: its text, exit code 2.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from importlib import import_module
from typing import Any, NoReturn, TextIO

import click

from tapfs import __version__, settings
from tapfs.cli.exits import INTERRUPTED
from tapfs.cli.options import asks_for_json
from tapfs.errors import TapfsError, text_of

#: Each verb: the module of `tapfs.cli.verbs` that has it, and its line in the help.
VERBS = {
    "start": ("start", "Start an operation; prints its id."),
    "run": ("run", "Run an operation here, with a progress bar."),
    "operations": ("operations", "Show what can be started."),
    "list": ("list", "List operations, the newest first."),
    "show": ("show", "Show how an operation stands."),
    "result": ("result", "Print an operation's result as JSON."),
    "journal": ("journal", "Print an operation's history."),
    "pause": ("ask", "Ask operations to stop at their next tap."),
    "resume": ("ask", "Let operations go on."),
    "cancel": ("ask", "Ask operations to stop for good."),
    "answer": ("answer", "Answer a gate that an operation waits at."),
    "retry": ("again", "Do again what failed."),
    "rewind": ("again", "Go back to a step and go on from there."),
    "fork": ("fork", "Start another operation from a step of one."),
    "wait": ("wait", "Wait until an operation is in a state."),
    "verify": ("verify", "Check the control directory's files."),
    "repair": ("repair", "Put right what verify finds."),
    "worker": ("serve", "Run a worker, which supervises too."),
    "supervise": ("serve", "Run a supervisor alone."),
    "up": ("serve", "Run all that one machine needs."),
}

_STDERR = 2


class Failed(click.ClickException):
    """An error as the person at the command line reads it."""

    def __init__(self, message: str, hint: str | None, *, is_json: bool) -> None:
        super().__init__(message)
        self._hint = hint
        self._is_json = is_json

    def show(self, file: Any = None) -> None:
        """Print it to stderr."""
        if self._is_json:
            document = {"error": {"message": self.message, "hint": self._hint}}
            click.echo(json.dumps(document, ensure_ascii=False), err=True)
            return
        click.echo(f"tapfs: {self.message}", err=True)
        if self._hint:
            click.echo(f"hint: {self._hint}", err=True)


class Program(click.Group):
    """The group of all verbs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module, and give its command."""
        if cmd_name not in VERBS:
            return None
        module = import_module(f"tapfs.cli.verbs.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_verb")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs' lines without importing any of them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; errors that a person can cause become `Failed`, Ctrl-C exit code 130."""
        try:
            return super().invoke(ctx)
        except TapfsError as error:
            raise Failed(text_of(error), error.hint, is_json=asks_for_json(ctx)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # `tapfs list | head`: Click ends without a word
                raise
            raise Failed(text_of(error), _hint_for(error), is_json=asks_for_json(ctx)) from error
        except KeyboardInterrupt:
            click.echo("tapfs: interrupted", err=True)
            ctx.exit(INTERRUPTED)


@click.command(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="VERB [ARGS]...",
    epilog="TAPFS_BROKER is the broker's URL; without it the one that is built in is used. An operation may be named "
    "by any unambiguous part of its id. Exit codes: 0 done, 1 failed or refused, 2 not understood, 3 time was up, 130 "
    "interrupted.",
)
@click.option("--control", metavar="DIR", help="The control directory (TAPFS_CONTROL, else 'control').")
@click.option("--app", metavar="MODULE:APP", help="The Celery app (TAPFS_APP, else the built-in one).")
@click.version_option(__version__, prog_name="tapfs")
def program(control: str | None, app: str | None) -> None:
    """Hold Celery workflows with plain files: start, look, pause, resume, cancel."""
    # Set in the environment, so that whatever is imported later, and every process started, sees the same.
    for variable, value in ((settings.CONTROL_VARIABLE, control), (settings.APP_VARIABLE, app)):
        if value:
            os.environ[variable] = value


def main() -> NoReturn:
    """Run `tapfs` with the arguments of this process, and exit."""
    open_closed_streams()
    program.main(prog_name="tapfs")


def open_closed_streams() -> None:
    """Have what is written to a closed stdout or stderr go nowhere: `tapfs list >&-`, and some service managers.

    Their numbers are taken first: the next file that is opened would get one, and be written into as if it were stderr.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STDERR:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    # Python sets a stream to None that was closed when it started.
    streams: dict[str, TextIO | None] = {"stdout": sys.stdout, "stderr": sys.stderr}
    for name, stream in streams.items():
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _hint_for(error: OSError) -> str | None:
    return {
        errno.ENOSPC: "the disk is full: make room and try again; what was there is unchanged",
        errno.EDQUOT: "your quota is used up: make room and try again; what was there is unchanged",
        errno.EROFS: "the file system is read-only; nothing was changed",
        errno.EACCES: "you may not do that as this user; nothing was changed",
        errno.EPERM: "you may not do that as this user; nothing was changed",
    }.get(error.errno or 0)
