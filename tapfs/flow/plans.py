"""From Celery's canvas to a plan. What cannot be kept is refused here, with the reason, never dropped in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from celery.canvas import Signature, _chain, chord, chunks, group

from tapfs.bus.fields import Json
from tapfs.bus.plan import Plan, Step, path_of, sequence_of, short_name
from tapfs.errors import TapfsError
from tapfs.flow.codec import to_json
from tapfs.flow.references import reference_to

#: Options of a signature that are kept with the step and used each time it is published.
KEPT_OPTIONS = frozenset(
    {
        "queue",
        "routing_key",
        "exchange",
        "priority",
        "countdown",
        "eta",
        "expires",
        "time_limit",
        "soft_time_limit",
        "headers",
        "ignore_result",
        "shadow",
        "compression",
        "delivery_mode",
    }
)
#: Options that Celery sets itself and that mean nothing to a step that is published alone.
_OF_CELERY = frozenset({"task_id", "root_id", "parent_id", "reply_to", "chain", "group_id", "group_index", "origin"})


class NotTappable(TapfsError):
    """A workflow cannot be made tappable; nothing was started."""


def plan_for(
    workflow: Signature,
    *,
    clause: Signature | Callable[..., Any] | None = None,
    callback: Signature | Callable[..., Any] | None = None,
    nth: int = 1,
    max_running_s: float | None = None,
) -> Plan:
    """Turn a signature or chain into a plan.

    Raises:
        NotTappable: it holds what cannot be kept, `nth` is no positive whole number, or `max_running_s` no time.
    """
    if max_running_s is not None and not 0 < max_running_s < float("inf"):
        raise NotTappable(f"max_running_s is {max_running_s!r}: it must be a number of seconds above 0, or None")
    if not isinstance(nth, int) or isinstance(nth, bool) or nth < 1:
        raise NotTappable(f"nth is {nth!r}: it must be a whole number from 1")
    signatures = list(_flat(workflow))
    if not signatures:
        raise NotTappable("the workflow is empty: there is no step to run")
    total = len(signatures)
    steps = [_step(signature, path_of(number, total)) for number, signature in enumerate(signatures, 1)]
    return Plan(
        sequence_of(list(steps)),
        nth,
        reference_to(clause, "clause") if clause is not None else None,
        reference_to(callback, "callback") if callback is not None else None,
        max_running_s,
    )


def _flat(workflow: object) -> Iterator[Signature]:
    """The signatures of a chain in order, of chains in chains too."""
    if isinstance(workflow, (group, chord, chunks)):
        kind = type(workflow).__name__.lstrip("_")
        raise NotTappable(
            f"a {kind} cannot be made tappable by this version: only chains of tasks can",
            hint="make each chain an operation of its own, or run the fan-out inside one step",
        )
    if isinstance(workflow, _chain):
        _refuse_own(workflow)
        for task in workflow.tasks:
            yield from _flat(task)
        return
    if not isinstance(workflow, Signature):
        raise NotTappable(f"{workflow!r} is no signature", hint="make one with task.s(...)")
    yield workflow


def _refuse_own(workflow: _chain) -> None:
    """Refuse a chain with options beside those of its tasks: Celery gives them to its first task, if to any."""
    own = [name for name, value in workflow.options.items() if value is not None and name not in _OF_CELERY]
    if own:
        raise NotTappable(
            f"the chain itself has the option '{own[0]}', which would reach its first task at most",
            hint="set it on the tasks that it is for, with task.s(...).set(...)",
        )


def _step(signature: Signature, path: str) -> Step:
    where = f"step {path} ({signature.task})"
    return Step(
        path=path,
        name=short_name(signature.task),
        task=signature.task,
        args=to_json(list(signature.args or ()), f"the arguments of {where}"),
        kwargs=to_json(dict(signature.kwargs or {}), f"the arguments of {where}"),
        immutable=bool(signature.immutable),
        options=_options(dict(signature.options), where),
    )


def _options(options: dict[str, Any], where: str) -> dict[str, Json]:
    kept = {}
    for name, value in options.items():
        if value is None or name in _OF_CELERY:
            continue
        if name == "serializer" and value == "json":  # what is used anyway
            continue
        if name not in KEPT_OPTIONS:
            raise NotTappable(f"{where} has the option '{name}', which this version of tapfs cannot keep")
        kept[name] = value.isoformat() if name in ("eta", "expires") and hasattr(value, "isoformat") else value
    encoded: dict[str, Json] = to_json(kept, f"the options of {where}")
    return encoded
