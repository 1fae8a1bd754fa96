"""What must be true at the end. Every fault found is a text that names the operation; there must be none."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.adversary import Adversary
from chaos.cases import Case
from chaos.fleet import Frozen
from chaos.ledger import Line, read_ledger
from chaos.measure import Recoveries, measure
from chaos.requests import Edit
from chaos.workflows import SILENT_AFTER_S
from tapfs.bus import files
from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.control import Control
from tapfs.bus.findings import Severity
from tapfs.bus.layout import DISPLACED_PREFIX
from tapfs.bus.states import FINAL, TABLE, State
from tapfs.bus.verify import verify_control
from tapfs.errors import TapfsError

#: Seconds of silence after which a holder may have lost its step; below it, two attempts never overlap.
SILENCE_S = SILENT_AFTER_S - 5.0
#: Between the clocks of the journal and of the ledger: both are of this machine, in milliseconds.
_BLUR_S = 0.02
#: Seconds in which an edit may come too late for an operation that ends.
_EDIT_S = 10.0


class Monitor:
    """Watches that a commit, once there, never changes and never goes away."""

    def __init__(self, cases: list[Case]) -> None:
        self._cases = cases
        self._seen: dict[Path, bytes] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)
        self.faults: list[str] = []

    def start(self) -> None:
        """Watch, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Look a last time, and end."""
        self._ending.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ending.wait(0.5):
            self._look()

    def _look(self) -> None:
        for case in list(self._cases):
            for path in case.operation.layout.steps.rglob("*.json"):
                if path.name.endswith(".checkpoint.json") or path in self._seen:
                    continue
                self._seen[path] = path.read_bytes()
        for path, content in self._seen.items():
            now = path.read_bytes() if path.exists() else None
            if now != content:
                self.faults.append(f"{path}: a commit has {'gone' if now is None else 'changed'}")
                self._seen[path] = now or b""


@dataclass
class Verdict:
    """What was found.

    Attributes:
        faults: what must not be; empty for a run without a loss.
        states: how many operations ended in which state.
        recoveries: how long it took from a kill until the step was at work again.
        notes: what `verify` thinks worth knowing, by text.
        attempts: how many attempts at steps there were; commits: how many steps are committed.
    """

    faults: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    recoveries: Recoveries = field(default_factory=Recoveries)
    notes: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    commits: int = 0


def is_as_wished(case: Case) -> bool:
    """Whether it is in the state that was wished, with nothing left to clear away."""
    names = os.listdir(case.operation.path)
    return case.state in case.wish.states and not any(name.startswith(DISPLACED_PREFIX) for name in names)


def judge(control: Control, data: Path, cases: list[Case], adversary: Adversary, frozen: list[Frozen]) -> Verdict:
    """Look at everything once the run is over and all is quiet."""
    verdict, requests = Verdict(), adversary.requests
    for case in cases:
        ledger = read_ledger(data, case.operation.id)
        verdict.states[case.state or "unknown"] += 1
        verdict.attempts += sum(line.mark == "start" for line in ledger)
        try:
            found = [
                *_ends(case),
                *_steps(case, ledger, frozen),
                *_waits(case, ledger),
                *_history(case, ledger, frozen),
                *_edits(case, requests.edits),
            ]
            verdict.commits += len(case.commits())
        except (OSError, TapfsError) as error:
            found = [f"it cannot be read: {error}"]
        verdict.faults += [f"{case.operation.id} ({case.wish}): {text}" for text in found]
    verdict.faults += _files(control, verdict.notes)
    verdict.faults += [
        f"a command failed in a way that no person understands: {command.tail}"
        for command in requests.commands
        if "Traceback" in command.output
    ]
    verdict.recoveries = measure(data, cases, adversary)
    return verdict


def _ends(case: Case) -> Iterator[str]:
    """The end that was asked for, with the exact result."""
    state, operation = case.state, case.operation
    if state not in case.wish.states:
        view = operation.state_file.read().view
        yield f"it is {state}, not {' or '.join(sorted(case.wish.states))}: {view.message if view else None}"
    elif state is State.SUCCEEDED and not case.is_right(operation.result):
        yield f"its result is wrong: {str(operation.result)[:300]}"
    if any(name.startswith(DISPLACED_PREFIX) for name in os.listdir(operation.path)):
        yield "a displaced state.json was never cleared away"


def _steps(case: Case, ledger: list[Line], frozen: list[Frozen]) -> Iterator[str]:
    """One claim, one commit: every attempt once, none beside another, none after the commit, results handed on."""
    commits = case.commits()
    starts = [line for line in ledger if line.mark == "start"]
    for (step, *fence), number in Counter((line.step, *line.fence) for line in starts).items():
        if number > 1:
            yield f"step {step}: epoch and attempt {fence} were claimed {number} times"
    for path in sorted({line.step for line in starts} | commits.keys()):
        lines = [line for line in ledger if line.step == path]
        commit = commits.get(path)
        if commit is not None:
            own = [line for line in lines if line.fence == (commit.epoch, commit.attempt)]
            if [line.mark for line in own] != ["start", "end"]:
                yield f"step {path}: it is committed by an attempt whose ledger is {own}"
            late = [line for line in lines if line.mark == "start" and line.fence > (commit.epoch, commit.attempt)]
            if late:
                yield f"step {path}: it was run again after its commit by {(commit.epoch, commit.attempt)}: {late}"
        yield from _overlaps(path, lines, frozen)
    yield from _handed_on(case)


def _overlaps(path: str, lines: list[Line], frozen: list[Frozen]) -> Iterator[str]:
    """Attempts of which one began before the other, which was not silent for long, had ended."""
    began: dict[str, Line] = {}
    for line in lines:
        if line.mark != "start":
            first = began.pop(line.token, None)
            inside = [other for other in began.values() if first is not None and other.at > first.at]
            if first is not None and inside and not _was_silent(first, line, frozen):
                yield f"step {path}: {inside[0]} began while {first} was at work"
        else:
            began[line.token] = line


def _was_silent(first: Line, last: Line, frozen: list[Frozen]) -> bool:
    """Whether the process of an attempt was stopped for long between two of its lines."""
    stops = [stop for stop in frozen if stop.pid == first.pid]
    overlaps = [min(stop.until or last.at, last.at) - max(stop.since, first.at - SILENCE_S) for stop in stops]
    return any(seconds > SILENCE_S for seconds in overlaps)


def _handed_on(case: Case) -> Iterator[str]:
    """Each result builds on the committed one before it."""
    commits = case.commits()
    if case.kind in ("fold", "fan", "onward"):  # the result tells it, or it stands in the plan
        return
    before: list[Any] = []
    for number, (path, commit) in enumerate(sorted(commits.items()), start=1):
        if commit.result[:-1] != before or commit.result[-1][0] != number:
            yield f"step {path}: its result does not build on that of the step before it"
        before = commit.result


def _waits(case: Case, ledger: list[Line]) -> Iterator[str]:
    """A step with a countdown begins no sooner than that after the step before it."""
    commits, before = case.commits(), None
    for step in case.operation.plan().steps:
        countdown = step.options.get("countdown")
        ended = seconds_of(commits[before].finished_at) if before in commits else None
        starts = [line.at for line in ledger if line.mark == "start" and line.step == step.path]
        if countdown is not None and ended is not None and starts and min(starts) < ended + countdown - _BLUR_S:
            yield f"step {step.path} began {min(starts) - ended:.3f} s after the one before, not {countdown} s"
        before = step.path


def _history(case: Case, ledger: list[Line], frozen: list[Frozen]) -> Iterator[str]:
    """Only transitions of the table, each from where the last one led; and nothing begins while it is paused."""
    moves = [line for line in case.operation.journal.entries() if line["event"] == "state"]
    for before, move in zip([None, *moves], moves, strict=False):
        if before is not None and before["to"] != move["from"]:
            yield f"the journal goes from {before['to']} on with {move}"
        if move["from"] is not None and move["to"] not in TABLE[State(move["from"])]:
            yield f"the journal has a transition that is not in the table: {move}"
    for move, after in zip(moves, [*moves[1:], None], strict=False):
        if move["to"] not in (State.PAUSED, State.CANCELLED):
            continue
        since = (seconds_of(move["at"]) or 0.0) + _BLUR_S
        until = (seconds_of(after["at"]) or 0.0) - _BLUR_S if after is not None else float("inf")
        for line in ledger:
            if line.mark == "start" and since < line.at < until and not _slept(line, frozen):
                yield f"step {line.step} began {line.at - since:.3f} s after the operation was {move['to']}: {line}"


def _edits(case: Case, edits: list[Edit]) -> Iterator[str]:
    """No edit is lost: each was accepted or overtaken, and the journal says so, unless the operation had ended."""
    entries = list(case.operation.journal.entries())
    seen = {line.get("reason") for line in entries if line["event"] == "asked"}
    over = [line["at"] for line in entries if line.get("to") in (State.CANCELLING, *FINAL)]
    ended = min((seconds_of(at) or 0.0 for at in over), default=float("inf"))
    for edit in edits:
        if edit.operation_id == case.operation.id and edit.reason not in seen and ended > edit.at + _EDIT_S:
            yield f"'{edit.reason}' of state.json, made at {timestamp(edit.at)}, was lost"


def _slept(line: Line, frozen: list[Frozen]) -> bool:
    """Whether a process was stopped for long just before it wrote a line: by then its claim may be another's."""
    return any(
        stop.pid == line.pid
        and stop.until is not None
        and stop.until - stop.since > SILENCE_S
        and stop.since < line.at < stop.until + 5
        for stop in frozen
    )


def _files(control: Control, notes: Counter[str]) -> Iterator[str]:
    """`verify` finds no fault, and knows every file that a dying process left."""
    _, findings = verify_control(control)
    for finding in findings:
        notes.update([finding.text] if finding.severity is Severity.NOTE else [])
    yield from (f"verify: {one.path}: {one.text}" for one in findings if one.severity is Severity.FAULT)
    known = {finding.path for finding in findings}
    for base, folders, names in os.walk(control.path):
        if base == str(control.path):
            folders[:] = [name for name in folders if name != "broker"]  # nothing there is kept for long
        for name in (*folders, *names):
            path = os.path.join(base, name)
            if name.startswith((files.TEMPORARY_PREFIX, ".new-")) and path not in known:
                yield f"verify does not know {path}, which a dying process has left"
