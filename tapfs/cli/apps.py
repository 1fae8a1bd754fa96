"""Loading the app whose operations are started or run; this is what imports Celery."""

from __future__ import annotations

import os

from tapfs import settings
from tapfs.cli.controls import actor
from tapfs.errors import TapfsError
from tapfs.flow.bus import Bus
from tapfs.flow.loading import load_bus


def open_bus() -> Bus:
    """The bus of the app that is set, acting as this user.

    Raises:
        TapfsError: the app cannot be loaded, or holds its operations in another directory than the one asked for.
        ControlUnusable: this tapfs cannot use the control directory.
    """
    bus = load_bus(settings.app_name())
    asked = settings.control_path().absolute()
    is_asked = bool(os.environ.get(settings.CONTROL_VARIABLE))
    if is_asked and os.path.realpath(asked) != os.path.realpath(bus.control.path):
        raise TapfsError(
            f"app '{settings.app_name()}' has its control directory at '{bus.control.path}', not at '{asked}'",
            hint="leave out --control and TAPFS_CONTROL, or let the app take them: Bus(app=app); nothing was started",
        )
    bus.control.check()
    bus.control.actor = actor()
    return bus
