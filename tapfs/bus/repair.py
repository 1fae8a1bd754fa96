"""Putting right what a check found, as far as tapfs understands it.

Each finding is put right for itself: under the operation's lock it is looked at once more, and only what is still so is
acted on, so workers, people and other repairs may be at it at the same time, and doing it twice does nothing. Nothing
is deleted but tapfs's own leftovers (`Remedy.REMOVE`): what is taken away is moved to `attic/repair-<n>/` below the
operation, n being the first under which its name is free.

Death at any line leaves things as before or as after, because each act is one call that names something: one rename
(put aside), one mkdir (make), one rename after a link that keeps the old file (write), one settle, which is right at
whatever line it dies. A commit's act has three, each of which costs no more than time (`_take_in_what_follows`). The
journal's line comes last; where it is missing, the attic shows what was done.

Not promised: that something which nobody but a person can know is put right. That has no remedy, and is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tapfs.bus import attic, claims, files
from tapfs.bus.attic import Changed, Seen
from tapfs.bus.clock import timestamp
from tapfs.bus.control import FORMAT, Control
from tapfs.bus.decide import PutOut
from tapfs.bus.doorbell import publish, reconcile
from tapfs.bus.fields import Json, encode
from tapfs.bus.findings import Finding, Remedy
from tapfs.bus.gaps import put_in_by, takers
from tapfs.bus.inspection import look_again
from tapfs.bus.operation import Operation
from tapfs.bus.plan import leaves
from tapfs.bus.planfile import renew_plan
from tapfs.bus.reconcile import settle
from tapfs.bus.records import Failure
from tapfs.bus.runs import read_run
from tapfs.bus.scene import is_leftover_name
from tapfs.bus.statefile import SETTLE_S
from tapfs.bus.values import value_of
from tapfs.bus.verify import look_around_again
from tapfs.bus.workers import clear_dead
from tapfs.errors import TapfsError, text_of

#: The type of a failure whose `error.json` was lost.
ERROR_LOST = "ErrorLost"
#: What one act uncovers the next round sees to; there are no longer chains.
_MOST_ROUNDS = 5
#: What all others need: without these nothing can be locked, put aside, or journaled.
_FIRST = {"lock": 0, "attic": 1, "journal.jsonl": 2, "steps": 3, "claims": 3}


class Outcome(StrEnum):
    """What became of one finding."""

    DONE = "done"
    #: It had been put right by somebody else, or had changed.
    NOT_NEEDED = "not needed any more"
    #: An edit of `state.json` is in the making, or was a moment ago; so long the operation is not brought in line.
    NOT_YET = "not yet"
    #: It could not be done; nothing was changed.
    FAILED = "not done"


@dataclass(frozen=True)
class Act:
    """What was done about one finding.

    Attributes:
        finding: the finding.
        outcome: what became of it.
        kept_as: where the old file is now, below the operation or beside where it was; None where there was none.
        trouble: why it was not done, or not journaled; None for neither.
    """

    finding: Finding
    outcome: Outcome
    kept_as: str | None = None
    trouble: str | None = None

    def document(self) -> dict[str, Json]:
        """The act as JSON: a finding's fields, and `outcome`, `kept_as` and `trouble`."""
        own = {"outcome": self.outcome.value, "kept_as": self.kept_as, "trouble": self.trouble}
        return self.finding.document() | own


@dataclass
class Report:
    """What came of a repair.

    Attributes:
        checked: how many operations were looked at.
        acts: everything that was tried.
        left: what is still found.
    """

    checked: int = 0
    acts: list[Act] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)


def repair(
    control: Control,
    look: Callable[[], tuple[int, list[Finding]]],
    *,
    on_plan: Callable[[list[Finding]], None] = lambda findings: None,
    on_act: Callable[[Act], None] = lambda act: None,
) -> Report:
    """Look, put right, and look again, until nothing more can be done.

    Args:
        control: the control directory.
        look: checks what is to be checked; gives how many operations there are, and the findings.
        on_plan: told what will be put right, before it is.
        on_act: told of each act, when it is over.
    """
    report = Report()
    for _ in range(_MOST_ROUNDS):
        report.checked, report.left = look()
        due = in_order(report.left)
        if not due:
            return report
        on_plan(due)
        acts = list(_carry_out(control, due, on_act))
        report.acts += acts
        if any(act.outcome is Outcome.NOT_YET for act in acts):
            time.sleep(2 * SETTLE_S)
        elif not any(act.outcome is Outcome.DONE for act in acts):
            break
    report.checked, report.left = look()
    return report


def in_order(findings: list[Finding]) -> list[Finding]:
    """Those that have a remedy, an operation at a time, what the others need first."""
    due = [finding for finding in findings if finding.remedy is not None]
    return sorted(due, key=_rank)


def _rank(finding: Finding) -> tuple[str, int, int, str]:
    name, remedies = Path(finding.path).name, list(Remedy)
    place = remedies.index(finding.remedy) if finding.remedy is not None else len(remedies)
    return finding.operation or "", place, _FIRST.get(name, len(_FIRST)), finding.path


def _carry_out(control: Control, due: list[Finding], on_act: Callable[[Act], None]) -> Iterator[Act]:
    """Put each right; where an operation cannot be locked, its others are not tried. Then bring each in line."""
    troubled: dict[str | None, str] = {}
    touched: dict[str, Operation] = {}
    for finding in due:
        act = _act_on(control, finding, troubled)
        on_act(act)
        yield act
        if act.outcome is Outcome.DONE and finding.operation is not None:
            touched[finding.operation] = control.operation(finding.operation)
    for operation in touched.values():
        try:
            reconcile(operation)
        except (TapfsError, OSError):
            continue  # what is in its way is found by the next look


def _act_on(control: Control, finding: Finding, troubled: dict[str | None, str]) -> Act:
    if finding.operation in troubled:
        return Act(finding, Outcome.FAILED, trouble=troubled[finding.operation])
    try:
        if finding.operation is None:
            return _act_around(control, finding)
        return _act_in(control.operation(finding.operation), finding)
    except (Changed, FileNotFoundError, FileExistsError):
        return Act(finding, Outcome.NOT_NEEDED)
    except TapfsError as error:
        if finding.operation is not None:
            troubled[finding.operation] = text_of(error)
        return Act(finding, Outcome.FAILED, trouble=text_of(error))
    except OSError as error:
        return Act(finding, Outcome.FAILED, trouble=text_of(error))


def _act_in(operation: Operation, finding: Finding) -> Act:
    """Put right what is wrong in an operation, under its lock."""
    if Path(finding.path) == operation.layout.folder / "lock":
        return _free_lock(operation, finding)
    put_out: tuple[PutOut, ...] = ()
    kept: str | None = None
    with operation.locked():
        seen = attic.seen_at(Path(finding.path))
        if not look_again(operation, finding):
            return Act(finding, Outcome.NOT_NEEDED)
        if finding.remedy is Remedy.RECONCILE:
            put_out = settle(operation, operation.actor, can_publish=operation.publisher is not None).put_out
        else:
            kept = _change(operation, finding, seen)
        is_done = finding.remedy is not Remedy.RECONCILE or not look_again(operation, finding)
        act = _journaled(operation, finding, kept) if is_done else Act(finding, Outcome.NOT_YET)
    publish(operation, put_out)
    return act


def _free_lock(operation: Operation, finding: Finding) -> Act:
    """Put aside what stands in the lock's place. Nobody can take such a lock, so nobody is in there."""
    path = Path(finding.path)
    with attic.folder_held(operation.path):
        seen = attic.seen_at(path)
        if not look_again(operation, finding):
            return Act(finding, Outcome.NOT_NEEDED)
        kept = attic.put_aside(operation.layout, path, seen)
    with operation.locked():
        return _journaled(operation, finding, kept)


def _change(operation: Operation, finding: Finding, seen: Seen | None) -> str | None:
    """Do it; returns where the old file is now, if there was one."""
    path = Path(finding.path)
    if finding.remedy is Remedy.PUT_ASIDE:
        _take_in_what_follows(operation, path)
        put_aside_as = attic.put_aside(operation.layout, path, seen)
        if path.is_relative_to(operation.layout.steps):
            renew_plan(operation.layout.plan)
        return put_aside_as
    if finding.remedy is Remedy.MAKE:
        files.make_dir(path)
    elif finding.remedy is Remedy.WRITE:
        content = _result(operation) if path == operation.layout.result else _error(operation, path)
        kept = attic.keep(operation.layout, path)
        files.replace(path, content)
        return kept
    elif finding.remedy is Remedy.REMOVE:
        attic.remove_leftover(path)
    return None


def _take_in_what_follows(operation: Operation, path: Path) -> None:
    """Where a commit is put aside, take back first what others have of it: their being out, and their checkpoints.

    That is what takes its result, or was put in by it. In this order: what is not out is put out again, what has lost
    its checkpoint starts anew, but what went on without that it is made from would be wrong.
    """
    layout, plan = operation.layout, operation.plan()
    for step in (one for one in plan.steps if layout.commit(one) == path):
        for following in (*takers(plan, step), *put_in_by(plan, step)):
            claims.drop(layout, following.path)
            checkpoint = layout.checkpoint(following)
            if files.exists(checkpoint):
                attic.put_aside(layout, checkpoint, attic.seen_at(checkpoint))


def _journaled(operation: Operation, finding: Finding, kept: str | None) -> Act:
    """Write into the journal what was done; it is done also where that cannot be written."""
    file = os.path.relpath(finding.path, operation.path)
    remedy = finding.remedy.value if finding.remedy is not None else None
    trouble = None
    try:
        operation.note("repaired", file=file, message=finding.text, remedy=remedy, kept_as=kept)
    except OSError as error:
        trouble = text_of(error)
    return Act(finding, Outcome.DONE, kept, trouble)


def _result(operation: Operation) -> bytes:
    """What `result.json` must say: what the commits say."""
    return encode(value_of(operation, operation.plan().root))


def _error(operation: Operation, path: Path) -> bytes:
    """What a lost error can still say: where the operation, or the member that was given up, stands."""
    run, plan = read_run(operation), operation.plan()
    steps = operation.progress(plan, run.epoch).look().open
    if path != operation.layout.error:
        member = plan.part(os.path.relpath(path, operation.layout.steps).removesuffix(".error.json"))
        steps = tuple(step for step in leaves(member) if not operation.is_committed(step))
    failure = Failure(
        type=ERROR_LOST,
        message=f"what failed is not known any more: {path.name} was lost or spoilt, and 'tapfs repair' wrote this one",
        step=steps[0].label if steps else None,
        epoch=run.epoch,
        failed_at=run.finished_at or timestamp(operation.now()),
    )
    return failure.encode()


def _act_around(control: Control, finding: Finding) -> Act:
    """Put right what stands around the operations: one repair at a time, by a lock on the folder itself."""
    path = Path(finding.path)
    with attic.folder_held(control.path):
        seen = attic.seen_at(path)
        if not look_around_again(control, finding):
            return Act(finding, Outcome.NOT_NEEDED)
        kept: str | None = None
        if finding.remedy is Remedy.PUT_ASIDE:
            kept = attic.rename_in_place(path, seen)
        elif finding.remedy is Remedy.MAKE:
            files.make_dir(path)
        elif finding.remedy is Remedy.WRITE:
            files.create(control.layout.format, FORMAT.encode())
        elif path.parent == control.layout.workers:
            clear_dead(control.layout)
        elif is_leftover_name(path.name):
            attic.remove_leftover(path)
        else:
            os.unlink(path)
    return Act(finding, Outcome.DONE, kept)
