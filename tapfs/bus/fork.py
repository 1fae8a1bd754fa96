"""Forking: another operation that begins where one of its steps stands, with copies of what came before.

The source is only read. What is done does not change, so it may run meanwhile; a copy is a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.again import part_at
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.fields import Json
from tapfs.bus.gaps import Done
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Group, Part, Plan, Sequence, Step, leaves, parts_of
from tapfs.bus.records import LARGE, Commit, Failure
from tapfs.bus.rewind import given_up_in, reset_parts
from tapfs.bus.runs import read_run
from tapfs.bus.splice import spliced, without_parts_of
from tapfs.bus.verbs import check_plan
from tapfs.errors import Refused

_MOST_NAMED = 5


@dataclass(frozen=True)
class Fork:
    """What another operation begins with.

    Attributes:
        plan: its plan.
        origin: `{"operation": <id>, "step": <path>}`, for its `operation.json`.
        copies: the files below `steps/` that it has from the start, each with where it comes from.
    """

    plan: Plan
    origin: dict[str, Json]
    copies: tuple[tuple[str, Path], ...]


def start_fork(
    control: Control, source: Operation, path: str, plan: Plan | None, arguments: dict[str, Json], owner: str | None
) -> Operation:
    """Start a fork; raises as `fork_of` and `Control.start` do."""
    fork, identity = fork_of(source, path, plan), source.identity()
    new = NewOperation(
        identity.operation,
        fork.plan,
        arguments,
        tuple(identity.masked),
        owner,
        forked_from=fork.origin,
        copies=fork.copies,
    )
    return control.start(new)


def fork_of(source: Operation, path: str, plan: Plan | None = None) -> Fork:
    """Work out a fork.

    Args:
        source: the operation to fork.
        path: from where on the fork works by itself: a step, a member or a group; by its path, label or name.
        plan: the fork's own plan, made with other arguments; None for the source's.

    Raises:
        Refused: there is no such place, what comes before it is not done, or the new plan has other steps there.
        RecordInvalid: what would be copied cannot be read.
    """
    if source.plan().is_edited:
        check_plan(source, "fork")
    while True:
        old = source.plan()
        if read_run(source).rewind_to is not None:
            raise Refused(f"cannot fork operation '{source.id}': it is being rewound", hint="try again in a moment")
        try:
            fork = _fork_of(source, old, path, plan)
        except FileNotFoundError:
            continue  # a rewind has begun, or is over
        if source.plan() == old:  # else a step has put something into it meanwhile
            return fork


def _fork_of(source: Operation, old: Plan, path: str, plan: Plan | None) -> Fork:
    part, layout = part_at(source, path, "fork"), source.layout
    missing = _missing_before(source, old, part)
    if missing is not None:
        text = f"cannot fork operation '{source.id}' from {part.path}: step {missing.label} before it is not done"
        raise Refused(text, hint="nothing was made; fork from an earlier step, or wait")
    redone = {step.path for one in reset_parts(old, part) for step in leaves(one)}
    kept = [step for step in old.steps if step.path not in redone and source.is_committed(step)]
    commits = {step.path: Commit.read(layout.commit(step), LARGE) for step in kept}
    if plan is None:
        new = without_parts_of(old, redone)
    else:
        new = _with_what_was_put_in(old, plan, kept)
        _check_kept(source, part.path, kept, commits, new)
    given_up = [
        one
        for one in given_up_in(layout, old.root)
        if new.has_part(one.path) and not any(step.path in redone for step in leaves(one))
    ]
    for one in given_up:
        Failure.read(layout.given_up(one), LARGE)
    found = [layout.commit(step) for step in kept] + [layout.given_up(one) for one in given_up]
    copies = tuple((str(one.relative_to(layout.steps)), one) for one in found)
    return Fork(new, {"operation": source.id, "step": part.path}, copies)


def _with_what_was_put_in(old: Plan, new: Plan, kept: list[Step]) -> Plan:
    """A new plan with what the steps that are copied had put in while they ran: copied, they do not run again."""
    for step in kept:
        if step.path not in old.putters or not new.has(step.path):
            continue
        homes = [home for home in old.homes if any(part.by == step.path for part in parts_of(home))]
        put_in: dict[type, tuple[Part, ...]] = {
            type(home): tuple(_as_put_in(part) for part in parts_of(home) if part.by == step.path) for home in homes
        }
        new = spliced(new, step.path, put_in.get(Sequence, ()), put_in.get(Group, ()))
    return new


def _as_put_in(part: Part) -> Part:
    """A part as it was when it was put in: without what its own steps have put in since."""
    if isinstance(part, Step):
        return part
    if isinstance(part, Sequence) and part.parts[0].path == part.path:  # a step that has put something in behind itself
        return part.parts[0]
    within = tuple(_as_put_in(one) for one in parts_of(part) if one.by is None)
    return replace(part, parts=within) if isinstance(part, Sequence) else replace(part, members=within)


def _check_kept(source: Operation, path: str, kept: list[Step], commits: dict[str, Commit], plan: Plan) -> None:
    """Raise `Refused` where what would be copied was done as other than what the new plan has."""
    steps = {step.path: step for step in plan.steps}
    faults = []
    for step in kept:
        new = steps.get(step.path)
        was = commits[step.path].of
        if new is None or new.label != step.label:
            faults.append(f"step {step.label} would be copied, but there is no such step any more")
        elif was is not None and was != new.checksum:
            faults.append(f"step {step.label} would be copied, but was done with other arguments")
    if not plan.has_part(path):
        faults.append(f"there is no step {path} any more")
    if faults:
        raise Refused(
            f"cannot fork operation '{source.id}' from {path} with these arguments: " + "; ".join(faults[:_MOST_NAMED]),
            hint="fork from an earlier step, which is done again with them; nothing was made",
        )


def _missing_before(source: Operation, plan: Plan, part: Part) -> Step | None:
    """The first step that a part waits for and that is not done; None where all are."""
    done = Done(plan, source.is_committed, lambda member: files.exists(source.layout.given_up(member)))
    for home, number in plan.way_to(part):
        for one in home.parts[:number] if isinstance(home, Sequence) else ():
            if (missing := done.first_missing(one)) is not None:
                return missing
    return None
