"""The worker that this process belongs to, and whether its steps are to go on elsewhere.

The parent of a worker's processes sets the folder before it forks them, so each of them knows it. A process that
belongs to no worker (a shell, `tapfs run`) has none.
"""

from __future__ import annotations

from tapfs.bus.workers import WorkerFolder

_folder: WorkerFolder | None = None


def begin(folder: WorkerFolder | None) -> None:
    """Belong to the worker of that folder; to none."""
    global _folder
    _folder = folder


def worker_name() -> str | None:
    """The name of the worker's folder; None outside a worker."""
    return _folder.name if _folder is not None else None


def why_leave() -> str | None:
    """Say why steps are to stop at their next tap here and go on elsewhere; None when they are not."""
    return _folder.why_leave() if _folder is not None else None
