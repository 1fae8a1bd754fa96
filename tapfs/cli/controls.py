"""Opening the control directory, for verbs that look and ask but do not publish."""

from __future__ import annotations

from pathlib import Path

from tapfs import settings
from tapfs.bus.control import Control
from tapfs.bus.locks import is_held

#: What to do when no process acts on what is asked.
NO_WORKER_HINT = "no worker is seen here: 'tapfs up' starts one, 'tapfs run --resume {id}' runs it in this terminal"


def open_control() -> Control:
    """The control directory that is set; raises `ControlUnusable` for one that this tapfs cannot use.

    Nothing is made: one that is not there has no operations. Whatever is asked through it is published by the
    supervisor, which sees the files change.
    """
    control = Control(settings.control_path(), actor=actor())
    control.check()
    return control


def actor() -> str:
    """Who acts, for journals: `cli:ada`."""
    return f"cli:{settings.user_name()}"


def is_supervised(control: Control) -> bool:
    """Say whether a process acts on what the files ask.

    Looks at the lock for an instant, without making it: a directory nobody has supervised yet stays as it is.
    """
    try:
        return is_held(str(control.layout.supervisor_lock))
    except OSError:  # it cannot be seen: who says that nobody does?
        return True


def shown_path(path: Path) -> str:
    """A path as a person would type it: relative where it is below the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
