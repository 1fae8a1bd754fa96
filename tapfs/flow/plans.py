"""From Celery's canvas to a plan. What cannot be kept is refused here, with the reason, never dropped in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from celery.canvas import Signature

from tapfs.bus.plan import CONCURRENCY, CONTINUE, FAIL, Group, Part, Plan, Sequence, Step, leaves, placed_in
from tapfs.flow.canvas import parts_of_canvas
from tapfs.flow.codec import to_json
from tapfs.flow.entry import each_step, entered, with_arguments
from tapfs.flow.options import KEPT_OPTIONS, NotTappable, stored_options
from tapfs.flow.references import reference_to

__all__ = ["KEPT_OPTIONS", "NotTappable", "detached", "given", "parts_for", "plan_for"]

#: So many numbers a path may have: it becomes a path of files.
_DEEPEST = 20


def plan_for(
    workflow: Signature,
    *,
    clause: Signature | Callable[..., Any] | None = None,
    callback: Signature | Callable[..., Any] | None = None,
    nth: int = 1,
    max_running_s: float | None = None,
    concurrency: int = CONCURRENCY,
    on_error: str = FAIL,
) -> Plan:
    """Turn a workflow into a plan.

    Args:
        workflow: whatever Celery's canvas can express; it is not changed.
        clause, callback, nth, max_running_s: as in `Plan`.
        concurrency: at most so many steps of the operation are out at a time.
        on_error: `fail` or `continue`, for groups that say nothing themselves.

    Raises:
        NotTappable: it holds what cannot be kept, or a setting is none.
        ResultUnstorable: an argument or option cannot be stored.
    """
    if max_running_s is not None and not 0 < max_running_s < float("inf"):
        raise NotTappable(f"max_running_s is {max_running_s!r}: it must be a number of seconds above 0, or None")
    check_count("nth", nth)
    check_count("concurrency", concurrency)
    check_on_error(on_error)
    parts = _stored(parts_of_canvas(workflow, on_error, is_outermost=True))
    if not parts:
        raise NotTappable("the workflow is empty: there is no step to run")
    return Plan(
        Sequence(parts),
        nth,
        reference_to(clause, "clause") if clause is not None else None,
        reference_to(callback, "callback") if callback is not None else None,
        max_running_s,
        concurrency,
        on_error,
    )


def parts_for(workflow: Signature, on_error: str = FAIL) -> tuple[Part, ...]:
    """Turn a workflow into parts that have no paths yet, to be put in behind a running step; raises as `plan_for`."""
    check_on_error(on_error)
    parts = _stored(parts_of_canvas(workflow, on_error, is_outermost=False))
    if not parts:
        raise NotTappable("the workflow is empty: there is no step to run")
    return tuple(_unplaced(part) for part in parts)


def detached(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The same parts with every entry step immutable: it takes its own arguments only."""
    return tuple(entered(parts, lambda step: replace(step, immutable=True)))


def given(parts: Iterable[Part], args: Iterable[Any], kwargs: dict[str, Any]) -> tuple[Part, ...]:
    """The same parts whose entry steps take these arguments, as `workflow.delay(...)` gives them.

    They come before a step's own ones, and those by name over its own; immutable steps take none.

    Raises:
        ResultUnstorable: an argument cannot be stored.
    """
    return tuple(with_arguments(parts, to_json(list(args), "the arguments"), to_json(kwargs, "the arguments")))


def check_count(name: str, value: object) -> None:
    """Raise `NotTappable` for what is no whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise NotTappable(f"{name} is {value!r}: it must be a whole number from 1")


def check_on_error(value: object) -> None:
    """Raise `NotTappable` for what says nothing about a member that fails."""
    if value not in (FAIL, CONTINUE):
        raise NotTappable(f"on_error is {value!r}: it must be '{FAIL}' or '{CONTINUE}'")


def _stored(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Parts at their paths, arguments and options as `workflow.json` holds them."""
    numbered = placed_in(parts)
    for part in numbered:
        for step in leaves(part):
            if step.path.count("/") > _DEEPEST:
                raise NotTappable(f"step {step.path} ({step.task}) is in groups nested more than {_DEEPEST} deep")
    return tuple(each_step(part, _stored_step) for part in numbered)


def _stored_step(step: Step) -> Step:
    where = f"step {step.path} ({step.task})"
    return replace(
        step,
        args=to_json(step.args, f"the arguments of {where}"),
        kwargs=to_json(step.kwargs, f"the arguments of {where}"),
        options=stored_options(step.options, where),
    )


def _unplaced(part: Part) -> Part:
    """The part as before it was placed."""
    bare = replace(part, path="")
    if isinstance(bare, Group):
        return replace(bare, members=tuple(_unplaced(one) for one in bare.members))
    if isinstance(bare, Sequence):
        return replace(bare, parts=tuple(_unplaced(one) for one in bare.parts))
    return bare
