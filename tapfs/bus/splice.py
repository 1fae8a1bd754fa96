"""Splicing: what a running step puts into the plan, behind itself or into the group around it.

The plan is written first, then the step's commit: what a step put in waits for that commit, so a step that dies in
between and is done again finds its first try's parts in the plan, with nothing done of them, and takes them out. So it
is spliced once, however often it ran (law 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tapfs.bus.plan import Part, Plan, Sequence, Step, leaves, parts_of, path_of, placed


def spliced(plan: Plan, path: str, then: tuple[Part, ...] = (), members: tuple[Part, ...] = ()) -> Plan:
    """Put parts into a plan in the name of a step, in the place of what that step has put in before.

    Args:
        plan: the plan.
        path: the step's.
        then: what is to run behind it, before what stood behind it so far; the last one's result counts as the step's.
        members: what is to run in the innermost group around it, as further members.

    Returns:
        The new plan; the same one where nothing changes.
    """
    plan = without_parts_of(plan, {path})
    if then:
        plan = _behind(plan, plan.step(path), then)
    if members:
        plan = _beside(plan, plan.step(path), members)
    return plan


def without_parts_of(plan: Plan, paths: Iterable[str]) -> Plan:
    """The plan without what these steps have put in, and what that has put in, and so on."""
    gone, out_of_it = set(paths), dict[int, Part]()
    while found := [part for part in plan.put_in if part.by in gone and id(part) not in out_of_it]:
        out_of_it |= {id(part): part for part in found}
        gone.update(step.path for part in found for step in leaves(part))
    if not out_of_it:
        return plan
    return _changed(plan, lambda parts: tuple(part for part in parts if id(part) not in out_of_it))


def _behind(plan: Plan, step: Step, then: tuple[Part, ...]) -> Plan:
    home, number = plan.way_to(step)[-1]
    siblings = parts_of(home)
    stem, first = _numbers_behind(plan, step.path)
    put_in = tuple(placed(part, f"{stem}.{path_of(first + n, 0)}", step.path) for n, part in enumerate(then))
    if isinstance(home, Sequence):
        return _changed(
            plan, lambda parts: _with(parts, siblings, (*siblings[: number + 1], *put_in, *siblings[number + 1 :]))
        )
    member = Sequence((replace(step, by=None), *put_in), step.path, step.by)
    return _changed(plan, lambda parts: _with(parts, siblings, (*siblings[:number], member, *siblings[number + 1 :])))


def _numbers_behind(plan: Plan, path: str) -> tuple[str, int]:
    """The beginning of the paths of what comes behind a step, and the first number that is free there.

    Always behind the last one in use: so a step that puts in itself, and something behind it, again and again, has no
    longer a path for it. What runs after what is told by the plan, not by these names.
    """
    folder, slash, last = path.rpartition("/")
    stem = folder + slash + last.partition(".")[0]
    used = (one.path.removeprefix(f"{stem}.") for one in plan.put_in)
    numbers = (int(number) for number in used if number.isdecimal())
    return stem, max(numbers, default=0) + 1


def _beside(plan: Plan, step: Step, members: tuple[Part, ...]) -> Plan:
    group, _ = next(plan.members_around(step))
    last = max(int(member.path.rpartition("/")[2].partition(".")[0]) for member in group.members)
    put_in = tuple(
        placed(member, f"{group.path}/{path_of(last + n, 0)}", step.path) for n, member in enumerate(members, 1)
    )
    return _changed(plan, lambda parts: _with(parts, group.members, (*group.members, *put_in)))


def _with(parts: tuple[Part, ...], old: tuple[Part, ...], new: tuple[Part, ...]) -> tuple[Part, ...]:
    return new if parts is old else parts


def _changed(plan: Plan, change: Callable[[tuple[Part, ...]], tuple[Part, ...]]) -> Plan:
    """The plan with what each of its sequences and groups holds changed."""

    def rebuilt(part: Part) -> Part:
        if isinstance(part, Step):
            return part
        changed = change(parts_of(part))
        if isinstance(part, Sequence):
            return replace(part, parts=tuple(rebuilt(one) for one in changed))
        return replace(part, members=tuple(rebuilt(one) for one in changed))

    root = rebuilt(plan.root)
    assert isinstance(root, Sequence)
    return replace(plan, root=root)
