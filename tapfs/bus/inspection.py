"""One look at one operation: every record decoded, and held against the others. Writes nothing.

Each finding says what `repair` does about it, if anything. An operation that tapfs does not understand, because what it
is or its plan is lost, or because it is another's copy, has no remedies at all: nothing in it may be touched.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.findings import Finding, Findings, Remedy
from tapfs.bus.gaps import Done
from tapfs.bus.gatecheck import look_at_gates
from tapfs.bus.layout import DISPLACED_PREFIX, KNOWN
from tapfs.bus.operation import Operation
from tapfs.bus.records import LARGE, SMALL, Failure, Identity, Run
from tapfs.bus.resultcheck import look_at_result
from tapfs.bus.scene import Scene, Thing, is_leftover_name, look_at_permissions, read_record, tell_stranger, thing_at
from tapfs.bus.states import FINAL, State
from tapfs.bus.stepfiles import look_at_claims, look_at_steps
from tapfs.bus.view import strays
from tapfs.errors import RecordInvalid

_REJECTED = re.compile(r"(state\.json|run\.json|attic|lock)\.rejected-[0-9]+")
_FROM_COPY = "restore it from a copy: nothing else holds it"
_RENAMED = "it gets another name"
_IN_LINE = "the operation is brought in line; so does any verb, and any supervisor"


def inspect(operation: Operation) -> Findings:
    """Look at an operation once."""
    return _Inspection(Scene(operation)).look()


def look_again(operation: Operation, finding: Finding) -> bool:
    """Say whether a finding is still so. Cheap: what does not bear on it is not read."""
    return finding in _Inspection(Scene(operation, Path(finding.path))).look()


class _Inspection:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._operation = scene.operation
        self._layout = scene.layout
        self._found = scene.found

    def look(self) -> Findings:
        """Read everything, in the order in which it is written last to first, then compare."""
        is_understood = self._look_at_what_it_is()
        run = self._scene.run = self._run()
        self._look_at_kinds()
        self._look_at_state(run)
        self._look_at_journal()
        plan = self._scene.plan
        if plan is not None:
            done = look_at_steps(self._scene, plan)
            look_at_claims(self._scene, plan)
            look_at_gates(self._scene, plan)
            if run is not None and run.rewind_to is not None:
                text = f"what is to be done again from {run.rewind_to.rpartition(':')[2]} on is not put aside yet"
                self._found.note(self._layout.run, text, _IN_LINE, Remedy.RECONCILE)
            elif run is not None:
                self._look_at_outcome(run, done)
        self._look_at_index(run)
        self._look_at_names()
        self._look_at_permissions(run)
        return self._found if is_understood else _without_remedies(self._found)

    def _look_at_what_it_is(self) -> bool:
        """Read identity and plan; says whether the rest may be judged by them."""
        is_understood = True
        try:
            identity = read_record(Identity, self._layout.identity)
        except (RecordInvalid, OSError) as error:
            self._found.unreadable(self._layout.identity, error, _FROM_COPY)
            is_understood = not isinstance(error, FileNotFoundError)
        else:
            if identity.id != self._operation.id:
                text = f"it is of operation '{identity.id}'"
                self._found.fault(self._layout.identity, text, "was the folder renamed or copied? undo that")
                is_understood = False
        try:
            self._scene.plan = self._operation.plan()
        except (RecordInvalid, OSError) as error:
            self._found.unreadable(self._layout.plan, error, _FROM_COPY)
        return is_understood and self._scene.plan is not None

    def _look_at_kinds(self) -> None:
        """Find what has the name of one of our files or folders, and cannot be one."""
        layout = self._layout
        for path in (layout.folder / "lock", layout.journal, layout.result, layout.error):
            thing = thing_at(path)
            if thing not in (Thing.FILE, Thing.NOTHING):
                becomes = _RENAMED if path.name == "lock" else "it is put aside"
                self._found.fault(path, f"it is {thing.value}", becomes, Remedy.PUT_ASIDE)
        for path in (layout.attic, layout.steps, layout.claims, layout.gates):
            thing = thing_at(path)
            if thing is Thing.NOTHING and path in (layout.steps, layout.claims):
                self._look_at_missing_folder(path)
            elif thing not in (Thing.FOLDER, Thing.NOTHING) and not path.is_dir():
                becomes = _RENAMED if path == layout.attic else "it is put aside"
                self._found.fault(path, f"it is {thing.value}, no folder", becomes, Remedy.PUT_ASIDE)

    def _look_at_missing_folder(self, path: Path) -> None:
        if path == self._layout.steps and self._has_done_steps():
            advice = "restore it from a copy: without it, every step is done again"
            self._found.fault(path, "it is missing, and steps were done", advice)
        else:
            self._found.fault(path, "it is missing", "it is made", Remedy.MAKE)

    def _has_done_steps(self) -> bool:
        """Whether other files show that a step was committed."""
        view, run, plan = self._operation.state_file.read().view, self._scene.run, self._scene.plan
        if (view is not None and view.steps_done) or (run is not None and run.outcome == State.SUCCEEDED):
            return True
        later = (step for step in plan.steps if plan.before(step) is not None) if plan is not None else ()
        return any(files.exists(self._layout.claim(step.path)) for step in later)

    def _run(self) -> Run | None:
        advice = "it is made anew from journal and state.json; an invalid one is set aside"
        try:
            return read_record(Run, self._layout.run, SMALL)
        except (RecordInvalid, OSError) as error:
            self._found.unreadable(self._layout.run, error, advice, Remedy.RECONCILE)
            return None

    def _look_at_state(self, run: Run | None) -> None:
        path, reading = self._layout.state, self._operation.state_file.read()
        if reading.is_missing:
            self._found.note(path, "it is missing", "it is written anew", Remedy.RECONCILE)
        elif reading.view is None and reading.is_settled:
            remedy = Remedy.RECONCILE if _may_be_read(path) else None
            advice = "it is set aside and written anew" if remedy else "see to its permissions, or to the disk"
            self._found.fault(path, "; ".join(reading.faults), advice, remedy)
        if reading.view is None or reading.view.state is None:
            return
        state, last = reading.view.state, self._operation.journal.last_state()
        outcome = run.outcome if run is not None else None
        if outcome is not None and state != outcome:
            self._found.fault(path, f"it says {state}, but run.json says {outcome}", _IN_LINE, Remedy.RECONCILE)
        elif run is not None and outcome is None and state in (State.PAUSED, *FINAL):
            self._found.fault(path, f"it says {state}, but run.json says it goes on", _IN_LINE, Remedy.RECONCILE)
        elif last is not None and state != last:
            self._found.fault(path, f"it says {state}, but the journal ends with {last}", _IN_LINE, Remedy.RECONCILE)

    def _look_at_journal(self) -> None:
        path = self._layout.journal
        if self._found.has(path) or not self._scene.is_meant(path):
            return
        try:
            lines = files.read_bytes(path, LARGE).split(b"\n")
        except OSError as error:
            missing = "it is begun again with the state that the other files show"
            self._found.unreadable(path, error, missing, Remedy.RECONCILE)
            return
        faults = [(number, _fault_of_line(line)) for number, line in enumerate(lines, start=1) if line]
        if faults and all(fault is not None for _, fault in faults):
            self._found.fault(path, "no line of it can be read", "restore it from a copy: its history is lost")
            return
        for number, fault in faults:
            if number == len(lines) and fault is not None:
                self._found.note(path, f"line {number}: its writer died half-way", "the next line is written after it")
            elif fault is not None:
                self._found.note(path, f"line {number}: {fault}", "it is passed over, as a line whose writer died")

    def _look_at_outcome(self, run: Run, done: Done) -> None:
        """Hold the outcome against commits, result and error."""
        layout, ended = self._layout, run.outcome or "it goes on"
        missing = done.first_missing(done.plan.root)
        if run.outcome == State.SUCCEEDED and missing:
            text = f"it says succeeded, but step {missing.label} is not committed"
            self._found.fault(layout.run, text, f"restore steps/{missing.label}.json from a copy")
        if run.outcome == State.SUCCEEDED:
            look_at_result(self._scene, done)
        elif thing_at(layout.result) is Thing.FILE and (missing or run.outcome is not None):
            remedy = Remedy.PUT_ASIDE if missing else None
            own = "all steps are committed: resume the operation, and it is its own"
            advice = "it is put aside" if missing else own
            self._found.fault(layout.result, f"there is a result, but run.json says {ended}", advice, remedy)
        if run.outcome == State.FAILED or run.is_failing:
            self._look_at_error()
        elif thing_at(layout.error) is Thing.FILE:
            becomes = "it is of a worker that died as it wrote it; it goes to the attic when the operation succeeds"
            self._found.note(layout.error, f"there is an error, but run.json says {ended}", becomes)
        if run.outcome is None and not missing:
            text = "all steps are committed, but it has not ended"
            self._found.note(layout.folder, text, _IN_LINE, Remedy.RECONCILE)

    def _look_at_error(self) -> None:
        path = self._layout.error
        if self._found.has(path):
            return
        try:
            read_record(Failure, path)
        except (RecordInvalid, OSError) as error:
            lost = "it is written anew, and says that what failed was lost"
            self._found.unreadable(path, error, lost, Remedy.WRITE)

    def _look_at_index(self, run: Run | None) -> None:
        entry = self._operation.control.active / self._operation.id
        thing = thing_at(entry)
        if thing not in (Thing.FILE, Thing.NOTHING):
            text = f"it is {thing.value} where an empty file belongs"
            self._found.fault(entry, text, _RENAMED, Remedy.PUT_ASIDE)
        elif run is not None and run.outcome in FINAL and thing is Thing.FILE:
            self._found.note(entry, f"the operation is {run.outcome}", "the entry is removed", Remedy.RECONCILE)
        elif run is not None and run.outcome not in FINAL and thing is Thing.NOTHING:
            text = "the index of active operations lacks it, so no supervisor looks at it"
            self._found.fault(self._layout.folder, text, "it is added", Remedy.RECONCILE)

    def _look_at_names(self) -> None:
        """Note what else is in the folder."""
        meant = dict(strays(self._operation))
        for name in sorted(os.listdir(self._layout.folder)):
            path = self._layout.folder / name
            is_ours = name in KNOWN or _REJECTED.fullmatch(name) or name.startswith(DISPLACED_PREFIX)
            if name in meant:
                self._found.note(path, f"it asks for nothing: did you mean '{meant[name]}'?")
            elif is_leftover_name(name) or not is_ours:
                tell_stranger(self._found, path)

    def _look_at_permissions(self, run: Run | None) -> None:
        is_over = run is not None and run.outcome in FINAL
        for path in (self._layout.folder, *(self._layout.folder / name for name in sorted(KNOWN))):
            if path.name not in ("PAUSE", "CANCEL"):
                look_at_permissions(self._found, path, is_over=is_over)


def _without_remedies(found: Findings) -> Findings:
    """The same, for an operation that is not understood: nothing in it is to be touched."""
    left = "nothing here is touched before operation.json and workflow.json are in order"
    for place, finding in enumerate(found):
        if finding.remedy is not None:
            found[place] = replace(finding, remedy=None, advice=left)
    return found


def _may_be_read(path: Path) -> bool:
    """Whether the system lets us see what is there, if only that it is no file."""
    try:
        files.read_bytes(path, 0)
    except files.NotAFile:
        return True
    except OSError:
        return False
    return True


def _fault_of_line(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return "it is no JSON"
    if not isinstance(entry, dict):
        return "it is no object"
    missing = [name for name in ("at", "event", "by", "state") if name not in entry]
    if missing:
        return f"it has no {', '.join(missing)}"
    if entry["state"] is not None and entry["state"] not in tuple(State):
        return f"'{entry['state']}' is no state"
    return None
