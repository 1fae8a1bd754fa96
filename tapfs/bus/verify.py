"""Checking the control directory: does every file say what it should, and do the files agree?

Nothing is written and no lock is taken, so a copy, a snapshot and a read-only mount can be checked too. While workers
write, two files read one after the other may seem to disagree; so what looks wrong is looked at again, and only what
is still wrong is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.control import Control
from tapfs.bus.findings import Finding, Findings, Remedy
from tapfs.bus.inspection import inspect
from tapfs.bus.layout import DRAIN, ID, PAUSE, STOPPING
from tapfs.bus.locks import is_held
from tapfs.bus.operation import Operation
from tapfs.bus.planfile import read_plan
from tapfs.bus.records import Identity, Run
from tapfs.bus.scene import Thing, is_leftover_name, look_at_permissions, read_record, tell_stranger, thing_at
from tapfs.errors import RecordInvalid

#: How often something must be found, and the seconds in between.
_LOOKS, _BETWEEN_S = 3, 0.15
#: Seconds for which an index entry may be without its operation, which is only just being made.
_MAKING_S = 60.0
_KNOWN = frozenset(
    {"format", PAUSE, "accounts", "secret", "active", "workers", "broker", "operations", "supervisor.lock", "README.md"}
)
_CARD = "worker.json"


def verify_control(control: Control) -> tuple[int, list[Finding]]:
    """Check all operations, and what stands around them: the index, workers, leftovers, strangers.

    Returns:
        How many operations there are, and what was found.

    Raises:
        ControlUnusable: its format is another one.
    """
    control.check()
    ids = control.ids()
    operations = [partial(_look_at, control.operation(one)) for one in ids]
    return len(ids), _lasting([partial(look_around, control), *operations])


def verify_operation(operation: Operation) -> list[Finding]:
    """Check one operation."""
    return verify_operations([operation])


def verify_operations(operations: Iterable[Operation]) -> list[Finding]:
    """Check some operations."""
    return _lasting([partial(_look_at, operation) for operation in operations])


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
        found = Findings(operation.id)
        found.unreadable(operation.path, error, "restore it from a copy, or move it away")
    return found if files.exists(operation.path) else Findings()


def look_around(control: Control) -> Findings:
    """Look once at what stands around the operations."""
    found = Findings()
    layout = control.layout
    if not files.exists(layout.format):
        _look_without_format(control, found)
        return found
    for path in _listed(layout.folder, found):
        if path.name not in _KNOWN:
            tell_stranger(found, path)
    for path in (layout.folder, layout.operations, layout.active):
        look_at_permissions(found, path)
    _look_at_operations(control, found)
    _look_at_index(control, found)
    if (thing := thing_at(layout.supervisor_lock)) not in (Thing.FILE, Thing.NOTHING):
        text = f"it is {thing.value}, so nobody can supervise"
        found.fault(layout.supervisor_lock, text, "it gets another name", Remedy.PUT_ASIDE)
    for path in _listed(layout.workers, found) if files.exists(layout.workers) else ():
        _look_at_worker(path, found)
    return found


def look_around_again(control: Control, finding: Finding) -> bool:
    """Say whether what was found around the operations is still so; looks at that path alone where it can."""
    path, found = Path(finding.path), Findings()
    if path.parent == control.layout.workers:
        _look_at_worker(path, found)
    elif path.parent == control.layout.active and ID.fullmatch(path.name):
        if not files.exists(control.layout.operations / path.name):
            _look_at_entry_without_operation(path, found)
    elif is_leftover_name(path.name):
        if files.exists(path):
            tell_stranger(found, path)
    else:
        found = look_around(control)
    return finding in found


def _look_at_operations(control: Control, found: Findings) -> None:
    folder = control.layout.operations
    if thing_at(folder) is not Thing.NOTHING:
        for path in _listed(folder, found):
            if not ID.fullmatch(path.name):
                tell_stranger(found, path)
    elif control.active_ids():
        found.fault(folder, "it is missing", "restore it from a copy: the index names operations that were there")
    else:
        found.fault(folder, "it is missing", "it is made", Remedy.MAKE)


def _look_without_format(control: Control, found: Findings) -> None:
    """Nothing sees the operations of a directory whose `format` is lost; its number may only be this one for sure."""
    try:
        ids = [name for name in sorted(os.listdir(control.layout.operations)) if ID.fullmatch(name)]
    except OSError:
        return  # it is not set up, or somebody's own
    if not ids:
        return
    text = f"it is missing, and {len(ids)} operations are there that nobody sees"
    strange = next((one for one in ids if not _is_of_this_format(control.layout.operations / one)), None)
    if strange is None:
        found.fault(control.layout.format, text, "it is written: all of them are of this format", Remedy.WRITE)
    else:
        advice = f"write 'tapfs 1' into it if no newer tapfs was here; operation '{strange}' does not read as one of it"
        found.fault(control.layout.format, text, advice)


def _is_of_this_format(folder: Path) -> bool:
    try:
        is_its_own = read_record(Identity, folder / "operation.json").id == folder.name
        read_record(Run, folder / "run.json")
        read_plan(str(folder / "workflow.json"))
    except (RecordInvalid, OSError):
        return False
    return is_its_own


def _look_at_index(control: Control, found: Findings) -> None:
    layout, thing = control.layout, thing_at(control.layout.active)
    if thing is Thing.NOTHING:
        found.fault(layout.active, "it is missing", "it is made", Remedy.MAKE)
        return
    if not layout.active.is_dir():
        found.fault(layout.active, f"it is {thing.value}, no folder", "it gets another name", Remedy.PUT_ASIDE)
        return
    for path in _listed(layout.active, found):
        if not ID.fullmatch(path.name):
            tell_stranger(found, path)
        elif not files.exists(layout.operations / path.name):
            _look_at_entry_without_operation(path, found)


def _look_at_entry_without_operation(path: Path, found: Findings) -> None:
    text = "the index names an operation that is not there"
    try:
        is_young = 0 <= time.time() - os.lstat(path).st_mtime < _MAKING_S
    except FileNotFoundError:
        return
    if is_young:
        found.note(path, text, "it may be in the making; else the supervisor removes the entry")
    elif thing_at(path) is Thing.FILE:
        found.note(path, text, "the entry is removed", Remedy.REMOVE)
    else:
        found.note(path, text, "remove it")


def _look_at_worker(path: Path, found: Findings) -> None:
    """A worker's folder: its card is locked while it lives."""
    if thing_at(path) is not Thing.FOLDER:
        tell_stranger(found, path)
    elif thing_at(path / _CARD) is Thing.FILE and not is_held(str(path / _CARD)):
        kept = f"; its {DRAIN} stays" if files.exists(path / DRAIN) else ""
        text = "its worker is gone"
        found.note(path, text, f"{_CARD} and {STOPPING} are removed{kept}", Remedy.REMOVE)


def _listed(folder: Path, found: Findings) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError as error:
        found.unreadable(folder, error)
        return []
