"""`tapfs verify`: check the files of the control directory."""

from __future__ import annotations

from pathlib import Path

import click

from tapfs.bus.findings import Finding, Severity
from tapfs.bus.verify import verify_control, verify_operation
from tapfs.cli import words
from tapfs.cli.controls import open_control, shown_path
from tapfs.cli.exits import DONE, FAILED
from tapfs.cli.options import json_option
from tapfs.cli.printing import print_json, say


@click.command("verify")
@click.argument("part", metavar="[ID]", required=False)
@json_option('Print {"checked", "faults", "notes", "findings": [...]}.')
@click.pass_context
def verify_verb(ctx: click.Context, part: str | None, is_json: bool) -> None:
    """Check the control directory's files.

    Each for itself, and against each other. Changes nothing. Exit code 1 when there is a fault; notes are worth
    knowing, and no faults. What 'tapfs repair' would do about a finding is said with it.
    """
    control = open_control()
    checked, findings = verify_control(control) if part is None else (1, verify_operation(control.find(part)))
    faults = number_of_faults(findings)
    if is_json:
        documents = [finding.document() for finding in findings]
        print_json({"checked": checked, "faults": faults, "notes": len(findings) - faults, "findings": documents})
    else:
        for finding in findings:
            click.echo(line_of(finding))
        hint = "'tapfs repair' sees to those that say so" if any(finding.remedy for finding in findings) else None
        say(f"checked {words.counted(checked, 'operation')}: {counts_of(findings)}", hint)
    ctx.exit(FAILED if faults else DONE)


def number_of_faults(findings: list[Finding]) -> int:
    """How many are faults; the others are notes."""
    return sum(finding.severity is Severity.FAULT for finding in findings)


def counts_of(findings: list[Finding]) -> str:
    """How many there are: `2 faults, 1 note`."""
    faults = number_of_faults(findings)
    return f"{words.counted(faults, 'fault')}, {words.counted(len(findings) - faults, 'note')}"


def line_of(finding: Finding) -> str:
    """A finding in a line: `fault: control/.../claims/0001: it is a folder (repair: it is put aside ...)`."""
    told = f"{'repair: ' if finding.remedy else ''}{finding.advice}"
    advice = f" ({words.plain(told)})" if finding.advice else ""
    return f"{finding.severity}: {words.plain(shown_path(Path(finding.path)))}: {words.plain(finding.text)}{advice}"
