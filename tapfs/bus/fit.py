"""Whether a plan still fits what is done: asked when an operation that was held is to go on.

People can edit `workflow.json`. Where a step is done before which another is not, or that the plan does not have, or
has with another task or other arguments, going on would repeat work or leave some out. Such an operation stays held,
and the steps are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tapfs.bus.gaps import Done
from tapfs.bus.layout import OperationLayout
from tapfs.bus.plan import Group, Plan
from tapfs.bus.records import LARGE, Commit
from tapfs.errors import RecordInvalid

#: The most steps that are named.
_MOST_NAMED = 5


def misfits(layout: OperationLayout, plan: Plan) -> list[str]:
    """Return what does not fit, a text each; none where all is well.

    Lists the committed steps, and reads them where somebody has edited the plan.
    """
    done = _committed(layout)
    members = {member.path for home in plan.homes if isinstance(home, Group) for member in home.members}
    unknown = sorted(done - {step.label for step in plan.steps} - {f"{path}.error" for path in members})
    found = [f"step {label} is done, but the plan has no such step" for label in unknown]
    so_far = Done(plan, lambda step: step.label in done, lambda member: f"{member.path}.error" in done)
    found += [f"step {one.label} is done, but step {other.label} before it is not" for one, other in so_far.early()]
    if plan.is_edited:
        found += _others(layout, plan, done)
    more = len(found) - _MOST_NAMED
    return [*found[:_MOST_NAMED], f"and {more:,} more"] if more > 0 else found


def _others(layout: OperationLayout, plan: Plan, done: set[str]) -> Iterator[str]:
    """Tell of steps that were done as other than what the plan has now."""
    for step in plan.steps:
        if step.label in done:
            try:
                was = Commit.read(layout.commit(step), LARGE).of
            except (FileNotFoundError, RecordInvalid):
                continue
            if was is not None and was != step.checksum:
                yield f"step {step.label} was done with another task or other arguments than the plan has now"


def _committed(layout: OperationLayout) -> set[str]:
    """The labels of all committed steps, and the names of members that were given up."""
    found = set()
    for base, _, names in os.walk(layout.steps):
        for name in names:
            if name.endswith(".json") and not name.endswith(".checkpoint.json") and not name.startswith("."):
                found.add(os.path.relpath(os.path.join(base, name), layout.steps).removesuffix(".json"))
    return found
