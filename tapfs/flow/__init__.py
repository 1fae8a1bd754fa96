"""Celery: workflows made tappable, the worker's side of a step, taps, sources, the supervisor, the embedded broker.

`task_cls="tapfs.flow:TappableTask"` names the task class of an app; it is imported when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapfs.flow.task import TappableTask

__all__ = ["TappableTask"]


def __getattr__(name: str) -> Any:
    """Import `TappableTask`, and with it Celery, only when it is asked for."""
    if name == "TappableTask":
        from tapfs.flow.task import TappableTask

        return TappableTask
    raise AttributeError(f"module 'tapfs.flow' has no attribute '{name}'")
