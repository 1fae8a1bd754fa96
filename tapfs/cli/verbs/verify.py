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
    knowing, and no faults.
    """
    control = open_control()
    checked, findings = verify_control(control) if part is None else (1, verify_operation(control.find(part)))
    faults = sum(finding.severity is Severity.FAULT for finding in findings)
    notes = len(findings) - faults
    if is_json:
        documents = [finding.document() for finding in findings]
        print_json({"checked": checked, "faults": faults, "notes": notes, "findings": documents})
    else:
        for finding in findings:
            click.echo(_line(finding))
        told = f"{words.counted(faults, 'fault')}, {words.counted(notes, 'note')}"
        say(f"checked {words.counted(checked, 'operation')}: {told}")
    ctx.exit(FAILED if faults else DONE)


def _line(finding: Finding) -> str:
    advice = f" ({finding.advice})" if finding.advice else ""
    return f"{finding.severity}: {shown_path(Path(finding.path))}: {finding.text}{advice}"
