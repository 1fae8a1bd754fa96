"""`tapfs repair`: put right what `tapfs verify` finds, as far as tapfs understands it.

It tells each thing before it is done and after, and at last what is left. With `--json` one document:

    {"checked": 2, "dry_run": false, "acts": [{"path": ..., "remedy": "put aside", "outcome": "done", ...}],
     "faults": 0, "notes": 1, "findings": [...]}

An act has the fields of its finding, `outcome` (`done`, `not needed any more`, `not yet` or `not done`), `kept_as`
and `trouble`. In a dry run `acts` are the findings that would be put right, and `findings` all there are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from tapfs.bus.control import Control
from tapfs.bus.findings import Finding
from tapfs.bus.repair import Act, Outcome, Report, in_order, repair
from tapfs.bus.verify import verify_control, verify_operations
from tapfs.cli import words
from tapfs.cli.controls import open_control, shown_path
from tapfs.cli.exits import DONE, FAILED
from tapfs.cli.options import json_option
from tapfs.cli.printing import print_json, say
from tapfs.cli.verbs.verify import counts_of, line_of, number_of_faults

Look = Callable[[], tuple[int, list[Finding]]]


@click.command("repair")
@click.argument("parts", metavar="[ID]...", nargs=-1)
@click.option("--dry-run", "is_dry", is_flag=True, help="Only tell what would be done.")
@json_option('Print {"checked", "dry_run", "acts": [...], "faults", "notes", "findings": [...]}.')
@click.pass_context
def repair_verb(ctx: click.Context, parts: tuple[str, ...], is_dry: bool, is_json: bool) -> None:
    """Put right what verify finds.

    Deletes nothing but what tapfs itself has left behind: what is taken away goes to the operation's
    attic/repair-<n>/. What tapfs does not understand, or a person must decide, is left, and told. Workers may be at
    work meanwhile. Exit code 0 when no fault is left.
    """
    control = open_control()
    operations = list(dict.fromkeys(control.find(part) for part in parts))

    def look() -> tuple[int, list[Finding]]:
        if not operations:
            return verify_control(control)
        return len(operations), verify_operations(operations)

    if is_dry:
        checked, found = look()
        report = Report(checked, left=found)
        acts = [finding.document() for finding in in_order(report.left)]
        if not is_json:
            _print_plan(in_order(report.left), "would repair")
    else:
        report = _carry_out(control, look, is_json=is_json)
        acts = [act.document() for act in report.acts]
    faults = number_of_faults(report.left)
    if is_json:
        counts = {"faults": faults, "notes": len(report.left) - faults}
        findings = [finding.document() for finding in report.left]
        print_json({"checked": report.checked, "dry_run": is_dry, "acts": acts, **counts, "findings": findings})
    else:
        _print_end(report, is_dry=is_dry)
    ctx.exit(FAILED if faults else DONE)


def _carry_out(control: Control, look: Look, *, is_json: bool) -> Report:
    if is_json:
        return repair(control, look)
    return repair(control, look, on_plan=lambda due: _print_plan(due, "will repair"), on_act=_print_act)


def _print_plan(due: list[Finding], what: str) -> None:
    for finding in due:
        click.echo(f"{what} {_name_of(finding)}: {words.plain(finding.text)} ({words.plain(finding.advice or '')})")


def _print_act(act: Act) -> None:
    name = _name_of(act.finding)
    if act.outcome is Outcome.DONE:
        click.echo(f"repaired {name}" + (f", kept as {words.plain(act.kept_as)}" if act.kept_as else ""))
        if act.trouble:
            say(f"cannot journal the repair of {name}: {words.plain(act.trouble)}")
    elif act.outcome is Outcome.NOT_NEEDED:
        click.echo(f"left {name}: it has changed meanwhile")
    elif act.outcome is Outcome.NOT_YET:
        click.echo(f"waiting for {name}: 'state.json' is being edited")
    else:
        say(f"cannot repair {name}: {words.plain(act.trouble or '')}")


def _print_end(report: Report, *, is_dry: bool) -> None:
    """Tell what is left, and count."""
    left = [finding for finding in report.left if not (is_dry and finding.remedy)]
    for finding in left:
        click.echo(line_of(finding))
    done = sum(act.outcome is Outcome.DONE for act in report.acts)
    due = len(report.left) - len(left)
    did = f"{due} would be repaired" if is_dry else f"{done} repaired"
    say(f"checked {words.counted(report.checked, 'operation')}: {did}; left: {counts_of(left)}")


def _name_of(finding: Finding) -> str:
    return words.plain(shown_path(Path(finding.path)))
