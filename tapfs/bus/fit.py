"""Whether a plan still fits what is done: asked when an operation that was held is to go on.

`workflow.json` is written once, but people can edit what they can reach. A plan whose committed steps are not its first
ones would repeat work or leave some out, so such an operation stays held, and the steps are named.
"""

from __future__ import annotations

import os

from tapfs.bus.layout import OperationLayout
from tapfs.bus.plan import Plan

#: The most steps that are named.
_MOST_NAMED = 5


def misfits(layout: OperationLayout, plan: Plan) -> list[str]:
    """Return what does not fit, a text each; none where all is well. Lists the committed steps."""
    done = _committed(layout)
    labels = [step.label for step in plan.steps]
    unknown = sorted(done.difference(labels))
    found = [f"step {label} is done, but the plan has no such step" for label in unknown[:_MOST_NAMED]]
    gap = next((place for place, label in enumerate(labels) if label not in done), len(labels))
    early = [label for label in labels[gap:] if label in done]
    return found + [f"step {label} is done, but step {labels[gap]} before it is not" for label in early[:_MOST_NAMED]]


def _committed(layout: OperationLayout) -> set[str]:
    """The labels of all committed steps."""
    found = set()
    for base, _, names in os.walk(layout.steps):
        for name in names:
            if name.endswith(".json") and not name.endswith(".checkpoint.json") and not name.startswith("."):
                found.add(os.path.relpath(os.path.join(base, name), layout.steps).removesuffix(".json"))
    return found
