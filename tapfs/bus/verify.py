"""Checking the control directory: does every file say what it should, and do the files agree?

Nothing is written and no lock is taken, so a copy, a snapshot and a read-only mount can be checked too. While workers
write, two files read one after the other may seem to disagree; so what looks wrong is looked at again, and only what
is still wrong is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.control import Control
from tapfs.bus.findings import Finding, Findings
from tapfs.bus.inspection import inspect
from tapfs.bus.layout import ID, PAUSE
from tapfs.bus.operation import Operation

#: How often something must be found, and the seconds in between.
_LOOKS, _BETWEEN_S = 3, 0.15
_KNOWN = frozenset(
    {"format", PAUSE, "accounts", "secret", "active", "workers", "broker", "operations", "supervisor.lock", "README.md"}
)


def verify_control(control: Control) -> tuple[int, list[Finding]]:
    """Check all operations, and what stands around them: the index, leftovers, strangers.

    Returns:
        How many operations there are, and what was found.

    Raises:
        ControlUnusable: its format is another one.
    """
    ids = control.ids()
    around = [partial(_around, control)] if control.check() else []
    return len(ids), _lasting([*around, *(partial(_look_at, control.operation(one)) for one in ids)])


def verify_operation(operation: Operation) -> list[Finding]:
    """Check one operation."""
    return _lasting([partial(_look_at, operation)])


def _lasting(looks: list[Callable[[], Findings]]) -> list[Finding]:
    """Look everywhere; where something was found look again, and return what was found each time."""
    found = [(look, list(look())) for look in looks]
    for _ in range(_LOOKS - 1):
        found = [(look, findings) for look, findings in found if findings]
        if not found:
            break
        time.sleep(_BETWEEN_S)
        found = [(look, _in_both(findings, look())) for look, findings in found]
    return [finding for _, findings in found for finding in findings]


def _in_both(one: list[Finding], other: list[Finding]) -> list[Finding]:
    return [finding for finding in one if finding in other]


def _look_at(operation: Operation) -> Findings:
    """Look at one operation; one that is removed meanwhile has no findings."""
    try:
        found = inspect(operation)
    except OSError as error:
        found = Findings()
        found.unreadable(operation.path, error)
    return found if files.exists(operation.path) else Findings()


def _around(control: Control) -> Findings:
    found = Findings()
    layout = control.layout
    for path in _listed(layout.folder, found):
        if path.name not in _KNOWN:
            found.stray(path)
    for path in _listed(layout.operations, found):
        if not ID.fullmatch(path.name):
            found.stray(path)
    for path in _listed(layout.active, found):
        if not ID.fullmatch(path.name):
            found.stray(path)
        elif not files.exists(layout.operations / path.name):
            found.note(path, "the index names an operation that is not there", "the supervisor removes the entry")
    return found


def _listed(folder: Path, found: Findings) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError as error:
        found.unreadable(folder, error)
        return []
