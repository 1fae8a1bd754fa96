"""`tappable`: turn a Celery workflow into one that can be paused, resumed and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from celery import Celery, current_app
from celery.canvas import Signature
from celery.local import Proxy

from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONCURRENCY, FAIL, Plan, Sequence
from tapfs.flow.bus import Bus, bus_of
from tapfs.flow.plans import NotTappable, given, plan_for


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
        """Start it as an operation; with the app's `task_always_eager`, run it here until it rests (see `eager`).

        Args:
            args, kwargs: partial arguments for the first step, or all members of a group that comes first; its own
                positional ones follow, as in Celery.
            owner: whose operation it is; None for the user who runs this process.
            is_paused: start it held.

        Raises:
            ResultUnstorable: an argument cannot be stored; nothing was started.
            ControlUnusable: the control directory cannot be written; nothing was started.
        """
        root = Sequence(given(self.plan.root.parts, args or (), kwargs or {}))
        plan = replace(self.plan, root=root)
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
    concurrency: int = CONCURRENCY,
    on_error: str = FAIL,
) -> Tappable:
    """Make a workflow tappable; nothing is started yet.

    Args:
        workflow: whatever Celery's canvas can express.
        clause: a further condition to pause, asked at each tap (when a step, or a member of a group, ends, and inside
            a step at most once a second): a function or signature of the last return value; truth means pause, and so
            does what it raises.
        callback: told on pausing, once for each pause: a function or signature of the value that the next step takes
            and the remaining workflow (a list of `{"task", "args", "kwargs", "immutable"}`). What it raises is logged.
            There is no other hook: of ends tell the `link` and `link_error` of steps, and Celery's signals.
        nth: a tap before the first and after every nth step of a chain, or member of a group, only.
        bus: whose control directory holds it; None for the bus of the workflow's app.
        name: the operation's name; None for the first task's.
        max_running_s: seconds after which a running step is given to another worker at its next tap, so that it does
            not keep the others waiting; None for the bus's own limit. The smaller one holds.
        concurrency: at most so many steps of the operation are out at a time; `fan_out` sets less for one group.
        on_error: `fail`: a member of a group that fails makes the operation fail, once what runs has ended. `continue`:
            the others go on, and `{"error": {"type", "message", "step"}}` stands in its place among the results.

    Raises:
        NotTappable: the workflow holds what cannot be kept; the message says what.
    """
    plan = plan_for(
        workflow,
        clause=clause,
        callback=callback,
        nth=nth,
        max_running_s=max_running_s,
        concurrency=concurrency,
        on_error=on_error,
    )
    if bus is None:
        bus = bus_of(next(_apps_in(workflow), None) or current_app._get_current_object())
    return Tappable(plan, bus, name or plan.steps[0].name)


def _apps_in(workflow: Any) -> Iterator[Celery]:
    """The apps of a workflow's tasks, in their order.

    A gate has none. What Celery puts around it has a stand-in for whichever app is the current one; the tasks know.
    """
    if not isinstance(workflow, Signature):
        return
    for app in (getattr(workflow._type, "app", None), workflow._app):
        if app is not None and not isinstance(app, Proxy):
            yield app
    held = getattr(workflow, "tasks", ())  # of a chord, its header
    for one in [held] if isinstance(held, Signature) else held:
        yield from _apps_in(one)
    yield from _apps_in(getattr(workflow, "body", None))


__all__ = ["NotTappable", "Tappable", "tappable"]
