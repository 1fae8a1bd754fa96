"""Steps that are done too early: something before them is not. And what makes up the value of a part.

What is done is told by the caller, who knows it from a listing, so that nothing is asked of the file system here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tapfs.bus.plan import Group, Part, Plan, Sequence, Step, leaves, parts_of


class Done:
    """What is done of a plan.

    Args:
        plan: the plan.
        is_done: whether a step is committed.
        is_given_up: whether a member of a group was given up.
    """

    def __init__(self, plan: Plan, is_done: Callable[[Step], bool], is_given_up: Callable[[Part], bool]) -> None:
        self.plan = plan
        self.is_done = is_done
        self.is_given_up = is_given_up

    def first_missing(self, part: Part) -> Step | None:
        """The first step that is to be done before a part is over; None when it is."""
        if isinstance(part, Step):
            return None if self.is_done(part) else part
        for one in parts_of(part):
            if isinstance(part, Group) and (self.is_given_up(one) or self._is_absent(one)):
                continue
            if (missing := self.first_missing(one)) is not None:
                return missing
        return None

    def early(self, part: Part | None = None) -> Iterator[tuple[Step, Step]]:
        """The steps that are done though another before them is not, each with that other one."""
        part = self.plan.root if part is None else part
        missing: Step | None = None
        for one in parts_of(part):
            if missing is not None:
                yield from ((step, missing) for step in leaves(one) if self.is_done(step))
            yield from self.early(one)
            if isinstance(part, Sequence):
                missing = missing or self.first_missing(one)

    def is_out_of_reach(self, step: Step) -> bool:
        """Say whether a step will not be done any more: a member around it was given up."""
        return any(self.is_given_up(member) for _, member in self.plan.members_around(step))

    def _is_absent(self, member: Part) -> bool:
        """Whether a member was put in by a step that is not done, and so does not count."""
        return member.by is not None and not self.is_done(self.plan.step(member.by))


def takers(plan: Plan, step: Step) -> list[Step]:
    """The steps whose first argument is the step's result, or has it in it: alone, or in a group's list."""
    holding: list[Part] = [step]
    for home, number in reversed(plan.way_to(step)):
        if isinstance(home, Sequence) and number + 1 < len(home.parts):
            break
        holding.append(home)
    found = {id(part) for part in (plan.step(step.path), *holding[1:])}
    return [one for one in plan.steps if id(plan.before(one)) in found]


def put_in_by(plan: Plan, step: Step) -> list[Step]:
    """The steps that a step has put in."""
    return [one for part in plan.put_in if part.by == step.path for one in leaves(part)]


def givers(part: Part) -> Iterator[Step]:
    """The steps whose results make up the value of a part."""
    if isinstance(part, Step):
        yield part
    elif isinstance(part, Sequence):
        yield from givers(part.parts[-1])
    else:
        for member in part.members:
            yield from givers(member)
