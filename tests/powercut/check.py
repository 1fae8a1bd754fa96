"""What must be there after a cut: everything acknowledged, nothing torn, and a way to the exact result."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from powercut.acks import Line
from powercut.load import RECOVERY, begin, next_out
from powercut.work import advance, exact_result
from tapfs import settings
from tapfs.bus import files
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.control import FORMAT, Control
from tapfs.bus.fields import Faulty
from tapfs.bus.findings import Severity
from tapfs.bus.journal import Journal
from tapfs.bus.operation import Operation
from tapfs.bus.planfile import decode_plan, encode_plan
from tapfs.bus.records import LARGE, Checkpoint, Claim, Commit, Failure, Identity, Record, Run, StateView
from tapfs.bus.states import FINAL, State, Want
from tapfs.bus.steps import commit_step
from tapfs.bus.verify import verify_control
from tapfs.errors import TapfsError

_SETTLE_LIMIT_S = 20.0
#: Of all requests, the last acknowledged one counts.
_ASKING = ("start", "pause", "resume", "cancel", "edit")
_MARKING = ("start", "hold", "let go", "resume")


@dataclass
class Checked:
    """What a check found.

    Attributes:
        problems: everything that must not be.
        acks: acknowledged things that were looked for.
        files: files that were read.
        torn: journals, and notes of side effects, whose last line was torn.
        spoilt_edits: edits that nobody has synced or taken in, and that came out torn.
        leftovers: temporary files and unfinished folders.
        finished: operations that went on to their exact result.
    """

    problems: list[str] = field(default_factory=list)
    acks: int = 0
    files: int = 0
    torn: int = 0
    spoilt_edits: int = 0
    leftovers: int = 0
    finished: int = 0


class Check:
    """The check of one control directory."""

    def __init__(self, folder: Path, lines: list[Line], cut: int, found: Checked) -> None:
        self._control = Control(folder, publisher=lambda publication: None, actor="check", recovery=RECOVERY)
        self._by_operation: dict[str, list[Line]] = {}
        for line in lines:
            if line["operation"]:
                self._by_operation.setdefault(line["operation"], []).append(line)
        self._cut = cut
        self._found = found
        self._editing: set[str] = set()

    def look(self) -> None:
        """Check what is on the disk, before anybody has mended anything."""
        self._editing = {name for name, lines in self._by_operation.items() if _last(lines, ("edit",))[1]}
        self._look_at_files()
        self._each_acknowledged(_Acknowledged.look)

    def reconcile(self) -> None:
        """Bring all in line, as a supervisor does, and have `verify` look."""
        deadline = time.monotonic() + _SETTLE_LIMIT_S
        left = list(self._control.ids())
        while left and time.monotonic() < deadline:
            left = [one for one in left if self._control.operation(one).reconcile().look_again]
            time.sleep(0.11 if left else 0)
        for name in left:
            self._problem(f"{name}: it does not settle")
        self._each_acknowledged(_Acknowledged.look_again)
        for finding in verify_control(self._control)[1]:
            if finding.severity is Severity.FAULT:
                self._problem(f"verify: {finding.path}: {finding.text}")

    def _each_acknowledged(self, look: Callable[[_Acknowledged], None]) -> None:
        for name, lines in self._by_operation.items():
            try:
                look(_Acknowledged(self._control, name, lines, self._cut, self._found))
            except (OSError, TapfsError, Faulty) as error:
                self._problem(f"{name}: cannot be checked: {error!r}")

    def finish(self) -> None:
        """Have every operation go on to its exact result; no cut comes any more."""
        os.environ[settings.SYNC_VARIABLE] = "off"
        try:
            self._finish_all()
        finally:
            del os.environ[settings.SYNC_VARIABLE]

    def _finish_all(self) -> None:
        for name in self._control.ids():
            operation = self._control.operation(name)
            try:
                self._finish(operation)
            except (OSError, TapfsError) as error:
                self._problem(f"{name}: it does not go on: {error!r}")

    def _finish(self, operation: Operation) -> None:
        arguments = operation.identity().arguments
        deadline = time.monotonic() + _SETTLE_LIMIT_S
        if not operation.successful():
            operation.resume()
        while not operation.successful() and time.monotonic() < deadline:
            operation.reconcile()
            out = next_out(operation)
            if out is not None and out.claim is not None:
                held = claim_step(operation, out.path, out.claim.epoch, out.claim.attempt, "check")
                if isinstance(held, HeldClaim):
                    _work(operation, held, arguments)
        if not operation.successful():
            self._problem(f"{operation.id}: it is stuck: {operation.view()}")
        elif operation.result != exact_result(arguments, arguments["steps"]):
            self._problem(f"{operation.id}: its result is not exact: {str(operation.result)[:200]}")
        else:
            self._found.finished += 1

    def _look_at_files(self) -> None:
        layout = self._control.layout
        if files.exists(layout.format) and layout.format.read_bytes() != FORMAT.encode():
            self._problem(f"format holds {layout.format.read_bytes()!r}")
        for path in _files_below(layout.operations):
            if path.name.startswith(files.TEMPORARY_PREFIX) or any(part.startswith(".new-") for part in path.parts):
                self._found.leftovers += 1
            elif path.name not in ("lock", "PAUSE"):
                self._found.files += 1
                self._look_at_file(path)

    def _look_at_file(self, path: Path) -> None:
        content = path.read_bytes()
        try:
            fault = self._fault_of(path, content)
        except (Faulty, ValueError) as error:
            fault = str(error)
        if fault and "state.json" in path.name and path.parent.name in self._editing:
            self._found.spoilt_edits += 1
        elif fault:
            self._problem(f"torn: {path}: {fault}: {content[:80]!r}")

    def _fault_of(self, path: Path, content: bytes) -> str | None:
        """Why a file is not exactly what tapfs writes; None when it is."""
        if path.suffix == ".jsonl":
            return self._fault_of_lines(content)
        if path.name == "workflow.json":
            return None if encode_plan(decode_plan(content)) == content else "it is not as it was written"
        if path.name == "result.json":
            return None if content.endswith(b"\n") and json.loads(content) else "it is not as it was written"
        kind = _kind_of(path)
        if kind is None:
            return "nobody has written such a file"
        record = kind.decode(content)
        is_edit = isinstance(record, StateView) and record.state is None  # a person's, not encoded by us
        return None if is_edit or record.encode() == content else "it is not as it was written"

    def _fault_of_lines(self, content: bytes) -> str | None:
        *whole, last = content.split(b"\n")
        self._found.torn += bool(last)
        for number, line in enumerate(whole, start=1):
            try:
                json.loads(line)
            except ValueError:
                if number == 1 or line:
                    return f"line {number}: {line[:80]!r}"
        return None if whole else "it has no line"

    def _problem(self, text: str) -> None:
        self._found.problems.append(f"cut {self._cut}: {text}")


class _Acknowledged:
    """What was acknowledged of one operation, held against its files."""

    def __init__(self, control: Control, name: str, lines: list[Line], cut: int, found: Checked) -> None:
        self._operation = control.operation(name)
        self._layout = self._operation.layout
        self._lines = lines
        self._cut = cut
        self._found = found

    def look(self) -> None:
        start = next((line for line in self._lines if line["kind"] == "start" and line["phase"] == "done"), None)
        if start is not None:
            self._expect(files.exists(self._layout.identity), start, "the operation is gone")
        if not files.exists(self._layout.identity):
            return
        run = Run.read(self._layout.run)
        if start is not None:
            self._look_at_start(start)
        self._look_at_requests(run)
        self._look_at_marker()
        self._look_at_steps()
        self._look_at_failures(run)
        self._look_at_journal()

    def look_again(self) -> None:
        """Check that what was asked stands also after somebody has reconciled."""
        if files.exists(self._layout.identity):
            self._look_at_requests(Run.read(self._layout.run))

    def _look_at_start(self, start: Line) -> None:
        identity = Identity.read(self._layout.identity, LARGE)
        self._expect(identity.arguments == start["arguments"], start, "its arguments are others")
        self._expect(len(self._operation.plan().steps) == start["arguments"]["steps"], start, "its plan is another")
        entry = self._operation.control.active / self._operation.id
        is_over = Run.read(self._layout.run).outcome in FINAL
        is_reviving = bool(_last(self._lines, ("resume",))[1])  # the index comes last, and is compared after a start
        self._expect(is_over or is_reviving or files.exists(entry), start, "the index lacks it")

    def _look_at_requests(self, run: Run) -> None:
        last, begun = _last(self._lines, _ASKING)
        if last is None or run.outcome == State.SUCCEEDED:
            return
        self._expect(
            run.want in {last["want"]} | {line["want"] for line in begun}, last, f"run.json says want {run.want}"
        )
        if begun:
            return
        if last["want"] != Want.RUN and last.get("state") in (State.PAUSED, State.CANCELLED):
            self._expect(run.outcome == last["state"], last, f"run.json says outcome {run.outcome}")
        if last["kind"] == "resume" and not _last(self._lines, _MARKING)[1]:
            # A worker may have failed it since, and a hold of its own may have stopped it.
            is_held = files.exists(self._layout.folder / "PAUSE")
            allowed = (None, State.FAILED, State.PAUSED) if is_held else (None, State.FAILED)
            self._expect(run.outcome in allowed, last, f"run.json says outcome {run.outcome}")

    def _look_at_marker(self) -> None:
        last, begun = _last(self._lines, _MARKING)
        if last is None or last["kind"] == "start":
            return
        allowed = {line["kind"] == "hold" for line in [last, *begun]}
        is_there = files.exists(self._layout.folder / "PAUSE")
        self._expect(is_there in allowed, last, f"PAUSE is {'there' if is_there else 'not there'}")

    def _look_at_steps(self) -> None:
        """Commits are there as they were, of checkpoints that one or a later, and the last claim stands."""
        arguments = self._operation.identity().arguments
        plan = self._operation.plan()
        claimed: dict[str, Line | None] = {}
        for line in self._lines:
            if "step" not in line:
                continue
            if line["kind"] == "claim" and line["phase"] == "done":
                claimed[line["step"]] = line if line["cut"] == self._cut else None
            elif line["kind"] in ("commit", "fail", "retry", "give back", "claim"):
                claimed[line["step"]] = None
            if line["phase"] != "done":
                continue
            step = plan.step(line["step"])
            if line["kind"] == "commit":
                self._look_at_commit(line, step, arguments)
            elif self._operation.is_committed(step):
                continue
            elif line["kind"] == "once":
                keys = [entry.get("key") for entry in Journal(self._layout.once(step)).entries()]
                self._expect(line["key"] in keys, line, f"there are {keys}")
            elif line["kind"] == "checkpoint":
                saved = self._read(Checkpoint, self._layout.checkpoint(step))
                self._expect(saved is not None and (saved.done or 0) >= line["done"], line, f"there is {_short(saved)}")
        for path, line in claimed.items():
            if line is not None:
                claim = self._read(Claim, self._layout.claim(path))
                holder = claim.held_by if claim is not None else None
                is_it = claim is not None and (claim.epoch, claim.attempt) == (line["epoch"], line["attempt"])
                self._expect(is_it and holder is not None and holder.worker == line["who"], line, f"there is {claim}")

    def _look_at_commit(self, line: Line, step: Any, arguments: dict[str, Any]) -> None:
        commit = self._read(Commit, self._layout.commit(step))
        stands = commit is not None and (commit.epoch, commit.attempt) == (line["epoch"], line["attempt"])
        self._expect(stands, line, f"there is {_short(commit)}")
        if commit is not None:
            exact = exact_result(arguments, int(step.path))
            self._expect(commit.result == exact, line, f"its result is {_short(commit)}")

    def _look_at_failures(self, run: Run) -> None:
        for line in self._lines:
            if line["kind"] == "fail" and line["phase"] == "done":
                places = [self._layout.error, *self._layout.attic.glob("*/error.json")]
                told = [failure.message for path in places if (failure := self._read(Failure, path)) is not None]
                self._expect(line["text"] in told, line, f"the errors are {told}")

    def _look_at_journal(self) -> None:
        asked = {(entry.get("want"), entry.get("reason")) for entry in self._operation.journal.entries()}
        for line in self._lines:
            if line["phase"] == "done" and line.get("changed"):
                self._expect((line["want"], line["reason"]) in asked, line, "the journal lacks it")

    def _read(self, kind: type[Any], path: Path) -> Any:
        """A record; None where there is none, or no such one."""
        try:
            return kind.read(path, LARGE)
        except (FileNotFoundError, TapfsError):
            return None

    def _expect(self, is_so: bool, line: Line, otherwise: str) -> None:
        self._found.acks += 1
        if not is_so:
            self._found.problems.append(f"cut {self._cut}: lost: {_short(line)}: {otherwise}")


def _last(lines: list[Line], kinds: tuple[str, ...]) -> tuple[Line | None, list[Line]]:
    """The last acknowledged call of these kinds, and those that began after it and were not refused."""
    last: Line | None = None
    begun: list[Line] = []
    for line in lines:
        if line["kind"] not in kinds:
            continue
        if line["phase"] == "done":
            last, begun = line, []
        elif line["phase"] == "begun":
            begun.append(line)
        elif line["phase"] == "refused":
            begun = begun[:-1]
    return last, begun


def _work(operation: Operation, held: HeldClaim, arguments: dict[str, Any]) -> None:
    try:
        value, done = begin(operation, held)
        for chunk in range(done, arguments["chunks"]):
            value = advance(arguments, held.step.path, chunk, value)
        commit_step(operation, held, value, timestamp(operation.now()))
    finally:
        held.release()


def _kind_of(path: Path) -> type[Record] | None:
    if path.parent.name == "claims":
        return Claim
    if path.parent.name == "steps":
        return Checkpoint if path.name.endswith(".checkpoint.json") else Commit
    if path.name.startswith((".state.json.", "state.json")):
        return StateView
    return {"operation.json": Identity, "run.json": Run, "error.json": Failure}.get(path.name)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 400 else text[:400] + "..."


def _files_below(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        yield from (Path(base, name) for name in names)
