"""`tappable`: turn a Celery workflow into one that can be paused, resumed and cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery import current_app
from celery.canvas import Signature

from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan, Sequence, Step
from tapfs.flow.bus import Bus, bus_of
from tapfs.flow.codec import to_json
from tapfs.flow.plans import NotTappable, plan_for


class Tappable:
    """A workflow with taps; `delay` and `apply_async` start it as an operation.

    Attributes:
        plan: the plan it will follow.
    """

    def __init__(self, plan: Plan, bus: Bus, name: str) -> None:
        self.plan = plan
        self._bus = bus
        self._name = name

    def __repr__(self) -> str:
        return f"<Tappable {self._name}: {len(self.plan.steps)} steps>"

    def delay(self, *args: Any, **kwargs: Any) -> Operation:
        """Start it; the arguments come before those of the first step, as in Celery. Raises as `apply_async` does."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = None, kwargs: Any = None, *, owner: str | None = None, is_paused: bool = False
    ) -> Operation:
        """Start it as an operation.

        Args:
            args, kwargs: partial arguments for the first step; its own positional ones follow, as in Celery.
            owner: whose operation it is; None for the user who runs this process.
            is_paused: start it held.

        Raises:
            ResultUnstorable: an argument cannot be stored; nothing was started.
            ControlUnusable: the control directory cannot be written; nothing was started.
        """
        first = self.plan.steps[0]
        given = to_json(list(args or ()), "the arguments")
        named = to_json(dict(kwargs or {}), "the arguments")
        if not first.immutable and (given or named):
            first = replace(first, args=[*given, *first.args], kwargs={**named, **first.kwargs})
        parts: tuple[Step | Sequence, ...] = (first, *self.plan.steps[1:])
        plan = replace(self.plan, root=Sequence(parts))
        return self._bus.start_plan(self._name, plan, {}, owner=owner, is_paused=is_paused)


def tappable(
    workflow: Signature,
    clause: Signature | Callable[..., Any] | None = None,
    callback: Signature | Callable[..., Any] | None = None,
    nth: int = 1,
    bus: Bus | None = None,
    *,
    name: str | None = None,
    max_running_s: float | None = None,
) -> Tappable:
    """Make a workflow tappable; nothing is started yet.

    Args:
        workflow: a signature or a chain.
        clause: a further condition to pause, asked at each tap: a function or signature of the last return value;
            truth means pause.
        callback: told on pausing: a function or signature of the last return value and the remaining workflow (a list
            of `{"task", "args", "kwargs", "immutable"}`).
        nth: a tap before the first and after every nth step only.
        bus: whose control directory holds it; None for the bus of the workflow's app.
        name: the operation's name; None for the first task's.
        max_running_s: seconds after which a running step is given to another worker at its next tap, so that it does
            not keep the others waiting; None for the bus's own limit. The smaller one holds.

    Raises:
        NotTappable: the workflow holds what cannot be kept; the message says what.
    """
    plan = plan_for(workflow, clause=clause, callback=callback, nth=nth, max_running_s=max_running_s)
    if bus is None:
        app = getattr(workflow, "app", None) or current_app._get_current_object()
        bus = bus_of(app)
    return Tappable(plan, bus, name or plan.steps[0].name)


__all__ = ["NotTappable", "Tappable", "tappable"]
