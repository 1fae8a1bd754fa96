"""Finding a program's Celery app and its bus by name."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from celery import Celery

from tapfs.errors import TapfsError
from tapfs.flow.bus import Bus, bus_of


def load_bus(name: str) -> Bus:
    """Import `MODULE:APP` and return the bus of that app; `:APP` may be left out where the name is `app`.

    Raises:
        TapfsError: it cannot be imported, or is no Celery app whose tasks can be steps.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        app = import_module(module_name)
        for part in (attribute or "app").split("."):
            app = getattr(app, part)
    except TapfsError:
        raise
    except Exception as error:  # whatever the program's module raises
        raise TapfsError(
            f"cannot load the app '{name}': {type(error).__name__}: {error}",
            hint="name it as MODULE:APP with --app or TAPFS_APP",
        ) from error
    if not isinstance(app, Celery):
        raise TapfsError(f"'{name}' is no Celery app, but {type(app).__name__}", hint="name it as MODULE:APP")
    if not getattr(app.Task, "is_tappable", False):
        raise TapfsError(
            f"the tasks of app '{name}' cannot be steps",
            hint="make it with Celery(..., task_cls='tapfs.flow:TappableTask')",
        )
    return bus_of(app)
