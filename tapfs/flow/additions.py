"""What a running step adds to its plan; it is written with the step's commit."""

from __future__ import annotations

from typing import Any

from tapfs.bus.claims import HeldClaim
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import Part, Sequence, leaves, path_of, placed
from tapfs.bus.planfile import is_path
from tapfs.flow.plans import NotTappable, detached, parts_for
from tapfs.flow.then import heirs


class Additions:
    """What one run of a step adds.

    Attributes:
        then: what it puts in behind itself; its result counts as the step's.
        members: what it adds to the group around it.
    """

    def __init__(self, operation: OperationFolder, held: HeldClaim) -> None:
        self._operation = operation
        self._held = held
        self.then: tuple[Part, ...] = ()
        self.members: tuple[Part, ...] = ()

    def put_in(self, workflow: Any) -> None:
        """Have a workflow run behind this step, in its place; raises `NotTappable` for what cannot be kept."""
        then = heirs(detached(parts_for(workflow, self._operation.known_plan().on_error)), self._held.step.options)
        self._check_depth(then, f"{self._held.step.path}.{path_of(1, 0)}")
        self.then = then

    def add_member(self, workflow: Any) -> None:
        """Have a workflow run beside this step, as a further member of the group around it.

        Raises:
            ValueError: there is none, as Celery says it.
            NotTappable: the workflow holds what cannot be kept.
        """
        plan = self._operation.known_plan()
        group, _ = next(plan.members_around(self._held.step), (None, None))
        if group is None:
            raise ValueError("Current task is not member of any chord")
        parts = detached(parts_for(workflow, plan.on_error))
        member = parts[0] if len(parts) == 1 else Sequence(parts)
        self._check_depth((member,), f"{group.path}/{path_of(1, 0)}")
        self.members += (member,)

    def _check_depth(self, parts: tuple[Part, ...], path: str) -> None:
        """Raise `NotTappable` before anything is written that could not be read again; a path like theirs will do."""
        paths = (step.path for part in parts for step in leaves(placed(part, path)))
        bad = next((one for one in paths if not is_path(one)), None)
        if bad is not None:
            raise NotTappable(
                f"step {self._held.step.label} cannot put in step {bad}: it is nested too deeply",
                hint="go on with what comes next in the same chain, not in a group inside the last one",
            )
