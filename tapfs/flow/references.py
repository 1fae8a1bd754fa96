"""Clauses and callbacks: plain functions and signatures, stored by name so that any worker can call them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from celery import Celery
from celery.canvas import Signature

from tapfs.bus.fields import Json
from tapfs.errors import TapfsError
from tapfs.flow.codec import to_json


def reference_to(target: Signature | Callable[..., Any], what: str) -> Json:
    """Write down a function or signature.

    Raises:
        TapfsError: a worker could not find it again (a lambda, a function inside a function, or of the script that is
            run).
    """
    if isinstance(target, Signature):
        return {
            "task": target.task,
            "args": to_json(list(target.args or ()), f"the {what}'s arguments"),
            "kwargs": to_json(dict(target.kwargs or {}), f"the {what}'s arguments"),
        }
    if getattr(target, "__module__", None) == "__main__":
        raise TapfsError(
            f"the {what} {target!r} cannot be found again by a worker: it is in the script that is run here",
            hint="put it into a module that both import",
        )
    name = f"{getattr(target, '__module__', None)}:{getattr(target, '__qualname__', None)}"
    try:
        found = _named(name)
    except TapfsError:
        found = None
    if found is not target:
        raise TapfsError(
            f"the {what} {target!r} cannot be found again by a worker as '{name}'",
            hint="use a function at the top level of a module, or a signature",
        )
    return name


def call(app: Celery, reference: Json, *arguments: object) -> Any:
    """Call what `reference_to` wrote down, here and now: its own arguments come after the given ones."""
    if isinstance(reference, str):
        return _named(reference)(*arguments)
    task = app.tasks.get(reference["task"])
    if task is None:
        raise TapfsError(f"this worker knows no task '{reference['task']}'")
    return task(*arguments, *reference.get("args", ()), **reference.get("kwargs", {}))


def _named(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise TapfsError(f"'{name}' cannot be found: {error}") from error
    return found
