"""Rewinding: what is done from a place on is put aside, and is done again. Nothing is deleted.

`run.json` says first what is to be rewound (`rewind_to`); whoever settles next does it, or the rest of it after a
death: each move is a rename, and what is moved already is passed over. Only then the next run begins. Nothing runs
meanwhile, so no claim is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tapfs.bus import claims, files
from tapfs.bus.folder import OperationFolder
from tapfs.bus.layout import OperationLayout
from tapfs.bus.plan import Group, Part, Plan, Sequence, Step, leaves, parts_of
from tapfs.bus.planfile import encode_plan
from tapfs.bus.records import Run
from tapfs.bus.splice import without_parts_of

#: In `rewind_to`: only what was given up in that part is done again, and what waits for it.
FAILED_IN = "failed:"


def reset_parts(plan: Plan, part: Part) -> list[Part]:
    """What is done again when the plan is rewound to a part: it, what waits for it, and what any of that has put in."""
    return _with_put_in(plan, [part, *plan.after(part)])


def given_up_in(layout: OperationLayout, part: Part) -> list[Part]:
    """The members that were given up at a part or inside it."""
    inside = [one for one in _members_in(part) if files.exists(layout.given_up(one))]
    return inside if isinstance(part, Group) or not files.exists(layout.given_up(part)) else [part]


def carry_out_rewind(operation: OperationFolder, plan: Plan, run: Run) -> tuple[Plan, Run]:
    """Put aside what `rewind_to` says. Under the operation's lock; again and again, until it is done.

    Returns:
        The plan, without what the steps that are done again had put in, and `run.json` as it is now.
    """
    layout, target = operation.layout, run.rewind_to or ""
    path = target.removeprefix(FAILED_IN)
    if plan.has_part(path):
        plan = _put_parts_aside(operation, plan, plan.part(path), run.epoch, only_failed=target.startswith(FAILED_IN))
    for name in (layout.result.name, layout.error.name):
        _put_aside(layout.folder / name, layout.attic_file(name, run.epoch))
    run = replace(run, rewind_to=None)
    files.replace(layout.run, run.encode())
    return plan, run


def _put_parts_aside(operation: OperationFolder, plan: Plan, part: Part, epoch: int, *, only_failed: bool) -> Plan:
    """Put aside the files of what is done again; returns the plan that is left."""
    layout = operation.layout
    attic = layout.attic_file("steps", epoch)
    failed = given_up_in(layout, part) if only_failed else []
    parts = reset_parts(plan, part)
    if only_failed:
        parts = _with_put_in(plan, [after for member in failed or [part] for after in plan.after(member)])
    for one in reversed(parts):
        _put_part_aside(layout, one, attic)
    redone = {step.path for one in parts for step in leaves(one)}
    for out in claims.all_out(layout):  # of a retry that waited
        if out.path in redone and not out.is_held:
            claims.drop(layout, out.path)
    left = without_parts_of(plan, redone)
    if left is not plan:
        files.replace(layout.plan, encode_plan(left))
    # Only now: they tell whoever takes over after a death what was given up, and so what else is to be moved.
    for member in (*failed, *(around for _, around in plan.members_around(part))):
        _put_aside(layout.given_up(member), attic / f"{member.path}.error.json")
    # Also where nothing of it has changed: a plan that was written anew is what tells every process that has the
    # operation in mind, within the same epoch, to look at all steps again.
    files.replace(layout.plan, encode_plan(left))
    return operation.plan()


def _with_put_in(plan: Plan, parts: Iterable[Part]) -> list[Part]:
    """Parts, each once, and what their steps have put in elsewhere: members of the groups around them."""
    found = list({id(part): part for part in parts}.values())
    redone = {step.path for part in found for step in leaves(part)}
    while more := [part for part in plan.put_in if part.by in redone and not _is_in(part, redone)]:
        found += more
        redone.update(step.path for part in more for step in leaves(part))
    return found


def _is_in(part: Part, paths: set[str]) -> bool:
    return all(step.path in paths for step in leaves(part))


def _members_in(part: Part) -> Iterator[Part]:
    for one in parts_of(part):
        if isinstance(part, Group):
            yield one
        yield from _members_in(one)


def _put_part_aside(layout: OperationLayout, part: Part, attic: Path) -> None:
    """Move the files of a part; of a group, its folder as a whole."""
    if isinstance(part, Step):
        for source in (layout.once(part), layout.checkpoint(part), layout.commit(part)):
            _put_aside(source, attic / source.relative_to(layout.steps))
    elif isinstance(part, Sequence):
        for one in reversed(part.parts):
            _put_part_aside(layout, one, attic)
    else:
        _put_aside(layout.steps / part.path, attic / part.path)
    if not isinstance(part, Sequence):
        for step in leaves(part):
            _put_aside(layout.gate(step), attic.parent / "gates" / step.label)
    _put_aside(layout.given_up(part), attic / f"{part.path}.error.json")


def _put_aside(source: Path, target: Path) -> None:
    """Move a file or folder, if it is there, beside what an earlier rewind of the same run may have put there."""
    if not files.exists(source):
        return
    free, number = target, 1
    while files.exists(free):
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    files.put_aside(source, free)
