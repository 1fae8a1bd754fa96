"""Steps for single signatures, and for `.map`, `.starmap` and `.chunks`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from celery.canvas import Signature, chunks, maybe_signature, xmap, xstarmap

from tapfs.bus.plan import Step, short_name
from tapfs.flow.gate import gate_name
from tapfs.flow.options import NotTappable, Options, overlaid, own_options

#: Celery's own task that gives back its arguments: without any, the empty list.
_NOTHING = "celery.accumulate"


def step_of(signature: Signature, options: Options) -> Step:
    """A step of one task, without a path; arguments and options are as they are in the signature."""
    return Step(
        path="",
        name=gate_name(signature) or short_name(signature.task),
        task=signature.task,
        args=list(signature.args or ()),
        kwargs=dict(signature.kwargs or {}),
        immutable=bool(signature.immutable),
        options=options,
    )


def nothing() -> Step:
    """A step that gives the empty list, in place of a group without members: a plan has none."""
    return Step(path="", name="empty", task=_NOTHING, immutable=True)


def steps_of_map(signature: xmap | xstarmap, options: Options) -> tuple[Step, ...]:
    """A step for each item of a map; like Celery, it takes nothing but the item, or the item's items."""
    task, is_star = _task_of(signature), isinstance(signature, xstarmap)
    bare = replace(step_of(task, overlaid(own_options(task), options)), kwargs={}, immutable=True)
    return tuple(replace(bare, args=list(item) if is_star else [item]) for item in signature.kwargs["it"])


def whole_map(signature: xmap | xstarmap, options: Options) -> Step:
    """A map, or a chunk, as one step, with its arguments as Celery writes them."""
    task = _task_of(signature)
    kwargs = {"task": dict(task), "it": list(signature.kwargs["it"])}
    return replace(step_of(signature, options), name=short_name(task.task), kwargs=kwargs, immutable=True)


def parts_of_chunks(signature: chunks) -> Iterator[xstarmap]:
    """The chunks, each as Celery makes a task of it; raises `NotTappable` for what is no size."""
    task, size, items = _task_of(signature), signature.kwargs["n"], list(signature.kwargs["it"])
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise NotTappable(f"the size of chunks is {size!r}: it must be a whole number from 1")
    for start in range(0, len(items), size):
        yield xstarmap(task, items[start : start + size])


def route_of(signature: chunks) -> Options:
    """The option by which Celery sends chunks where it sends the task that they are of."""
    return {"route_name": _task_of(signature).task}


def _task_of(signature: Signature) -> Signature:
    task: Any = signature.kwargs["task"]
    return maybe_signature(task) if isinstance(task, dict) else task.s()
