"""One look at one operation: every record decoded, and held against the others. Writes nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from tapfs.bus import claims, files
from tapfs.bus.fields import Json
from tapfs.bus.findings import Findings
from tapfs.bus.layout import DISPLACED_PREFIX, KNOWN
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan, Step
from tapfs.bus.records import LARGE, Checkpoint, Commit, Failure, Identity, Record, Run
from tapfs.bus.states import FINAL, State
from tapfs.bus.view import strays
from tapfs.errors import RecordInvalid

_REJECTED = re.compile(r"(state|run)\.json\.rejected-[0-9]+")
_CHECKPOINT, _COMMIT = ".checkpoint.json", ".json"
_SETTLED_BY_SHOW = "'tapfs show' sets it aside and writes it anew"
_SETTLED_BY_VERB = "'tapfs resume' or 'tapfs pause' brings it in line, and so does a supervisor"

Kind = TypeVar("Kind", bound=Record)


def inspect(operation: Operation) -> Findings:
    """Look at an operation once."""
    return _Inspection(operation).look()


class _Inspection:
    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._layout = operation.layout
        self._found = Findings()

    def look(self) -> Findings:
        """Read everything, in the order in which it is written last to first, then compare."""
        run = self._read(Run, self._layout.run, "it is made anew from the other files when somebody looks")
        identity = self._read(Identity, self._layout.identity, "restore it from a copy: nothing else holds it")
        if identity is not None and identity.id != self._operation.id:
            self._found.fault(self._layout.identity, f"it is of operation '{identity.id}'", "was the folder renamed?")
        self._look_at_state(run)
        self._look_at_journal()
        plan = self._plan()
        if plan is not None:
            commits = self._look_at_steps(plan, run)
            self._look_at_claims(plan, run)
            if run is not None:
                self._look_at_outcome(plan, run, commits)
        self._look_at_index(run)
        self._look_at_names()
        return self._found

    def _read(self, kind: type[Kind], path: Path, advice: str | None = None) -> Kind | None:
        """Read a record; one that is missing or spoilt is a fault."""
        try:
            return kind.read(path, LARGE)
        except (RecordInvalid, OSError) as error:
            self._found.unreadable(path, error, advice)
            return None

    def _plan(self) -> Plan | None:
        try:
            return self._operation.plan()
        except (RecordInvalid, OSError) as error:
            self._found.unreadable(self._layout.plan, error, "restore it from a copy: nothing else holds it")
            return None

    def _look_at_state(self, run: Run | None) -> None:
        reading = self._operation.state_file.read()
        if reading.is_missing:
            self._found.note(self._layout.state, "it is missing", "it is written anew when somebody looks")
        elif reading.view is None and reading.is_settled:
            self._found.fault(self._layout.state, "; ".join(reading.faults), _SETTLED_BY_SHOW)
        if reading.view is None or reading.view.state is None:
            return
        state, last = reading.view.state, self._operation.journal.last_state()
        outcome = run.outcome if run is not None else None
        if outcome is not None and state != outcome:
            self._found.fault(self._layout.state, f"it says {state}, but run.json says {outcome}", _SETTLED_BY_VERB)
        elif run is not None and outcome is None and state in (State.PAUSED, *FINAL):
            self._found.fault(self._layout.state, f"it says {state}, but run.json says it goes on", _SETTLED_BY_VERB)
        elif last is not None and state != last:
            text = f"it says {state}, but the journal ends with {last}"
            self._found.fault(self._layout.state, text, _SETTLED_BY_VERB)

    def _look_at_journal(self) -> None:
        path = self._layout.journal
        try:
            lines = files.read_bytes(path, LARGE).split(b"\n")
        except OSError as error:
            self._found.unreadable(path, error)
            return
        for number, line in enumerate(lines, start=1):
            fault = _fault_of_line(line) if line else None
            if fault is None:
                continue
            if number == len(lines):
                self._found.note(path, f"line {number}: its writer died half-way", "the next line is written after it")
            else:
                self._found.fault(path, f"line {number}: {fault}", "the line is left out")

    def _look_at_steps(self, plan: Plan, run: Run | None) -> dict[str, Commit]:
        """Check commits and checkpoints; returns the commits by label."""
        labels = {step.label for step in plan.steps}
        commits: dict[str, Commit] = {}
        for path, name in _files_below(self._layout.steps):
            suffix = next((one for one in (_CHECKPOINT, _COMMIT) if name.endswith(one)), None)
            if suffix is None or Path(name).name.startswith("."):
                self._found.stray(path)
            elif name.removesuffix(suffix) not in labels:
                self._found.fault(path, "the plan has no such step", "move it away")
            elif suffix == _CHECKPOINT:
                self._read(Checkpoint, path, "move it away, and the step starts anew")
            else:
                commit = self._read(Commit, path, "move it away, and the step is done again")
                if commit is not None:
                    commits[name.removesuffix(suffix)] = commit
                if commit is not None and run is not None and commit.epoch > run.epoch:
                    self._found.fault(path, f"it is of epoch {commit.epoch}, and run.json of epoch {run.epoch}")
        self._look_for_gap(plan, commits)
        return commits

    def _look_for_gap(self, plan: Plan, commits: dict[str, Commit]) -> None:
        gap: Step | None = None
        for step in plan.steps:
            if step.label not in commits:
                gap = gap or step
            elif gap is not None:
                path = self._layout.commit(step)
                self._found.fault(path, f"it is committed, but step {gap.label} before it is not")
                return

    def _look_at_claims(self, plan: Plan, run: Run | None) -> None:
        paths = {step.path for step in plan.steps}
        try:
            outs = claims.all_out(self._layout)
        except OSError as error:
            self._found.unreadable(self._layout.claims, error)
            return
        for out in outs:
            path = self._layout.claim(out.path)
            if out.path not in paths:
                self._found.fault(path, "the plan has no such step", "it is removed when somebody reconciles")
            elif out.claim is None:
                self._found.fault(path, "it is no claim", "it is replaced when the step is published again")
            elif out.is_dead:
                holder = out.claim.held_by
                worker = holder.worker if holder is not None else "its worker"
                self._found.note(path, f"{worker} is gone", "the step will be recovered by a worker")
            elif run is not None and out.claim.epoch > run.epoch:
                self._found.fault(path, f"it is of epoch {out.claim.epoch}, and run.json of epoch {run.epoch}")

    def _look_at_outcome(self, plan: Plan, run: Run, commits: dict[str, Commit]) -> None:
        """Hold the outcome against commits, result and error."""
        layout, has_succeeded = self._layout, run.outcome == State.SUCCEEDED
        missing = [step.label for step in plan.steps if step.label not in commits]
        if has_succeeded and missing:
            self._found.fault(layout.run, f"it says succeeded, but step {missing[0]} is not committed")
        if has_succeeded:
            self._look_at_result(commits.get(plan.steps[-1].label))
        elif files.exists(layout.result):
            self._found.fault(layout.result, f"there is a result, but run.json says {run.outcome or 'it goes on'}")
        if run.outcome == State.FAILED:
            self._read(Failure, layout.error)
        elif files.exists(layout.error):
            self._found.note(layout.error, f"there is an error, but run.json says {run.outcome or 'it goes on'}")
        if run.outcome is None and not missing:
            self._found.note(layout.folder, "all steps are committed, but it has not ended", "a worker will end it")

    def _look_at_result(self, last: Commit | None) -> None:
        path = self._layout.result
        try:
            result: Json = json.loads(files.read_bytes(path, LARGE))
        except ValueError as error:
            self._found.fault(path, str(error))
        except OSError as error:
            self._found.unreadable(path, error)
        else:
            if last is not None and result != last.result:
                self._found.fault(path, "it is not what the last step's commit says")

    def _look_at_index(self, run: Run | None) -> None:
        entry = self._operation.control.active / self._operation.id
        if run is None:
            return
        is_over, is_indexed = run.outcome in FINAL, files.exists(entry)
        if is_over and is_indexed:
            self._found.note(entry, f"the operation is {run.outcome}", "the supervisor removes the entry")
        elif not is_over and not is_indexed:
            text = "the index of active operations lacks it, so no supervisor looks at it"
            self._found.fault(self._layout.folder, text, _SETTLED_BY_VERB)

    def _look_at_names(self) -> None:
        """Note what else is in the folder."""
        meant = dict(strays(self._operation))
        for name in sorted(os.listdir(self._layout.folder)):
            path = self._layout.folder / name
            if name in meant:
                self._found.note(path, f"it asks for nothing: did you mean '{meant[name]}'?")
            elif name not in KNOWN and not _REJECTED.fullmatch(name) and not name.startswith(DISPLACED_PREFIX):
                self._found.stray(path)


def _fault_of_line(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return "it is no JSON"
    if not isinstance(entry, dict):
        return "it is no object"
    missing = [name for name in ("at", "event", "by", "state") if name not in entry]
    if missing:
        return f"it has no {', '.join(missing)}"
    if entry["state"] is not None and entry["state"] not in tuple(State):
        return f"'{entry['state']}' is no state"
    return None


def _files_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, with its path from there."""
    for base, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(base, name)
            yield path, str(path.relative_to(folder))
