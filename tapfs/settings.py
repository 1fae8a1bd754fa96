"""What the environment sets, read in one place, when it is asked for.

| variable | default | what |
| --- | --- | --- |
| `TAPFS_CONTROL` | `control` | the control directory |
| `TAPFS_APP` | the built-in one | `MODULE:APP` of the Celery app |
| `TAPFS_BROKER` | the embedded broker | a broker URL of Celery's |
| `TAPFS_DATA` | `data` | where inputs and outputs lie |
| `TAPFS_FIRST_DELAY_S` | `10` | seconds after which a step that nobody runs is published again |
| `TAPFS_LONGEST_DELAY_S` | `30` | that delay doubles each time, up to this |
| `TAPFS_MAX_CRASHES` | `3` | workers that a step may take down in a row without getting further |
| `TAPFS_MAX_INTERRUPTIONS` | `10` | interruptions of a step in a row without getting further |
| `TAPFS_SILENT_AFTER_S` | `60` | seconds without a sign of life after which a frozen worker loses its step |
| `TAPFS_MAX_RUNNING_S` | no limit | seconds after which a running step goes on in another worker |
| `TAPFS_SYNC` | `on` | `off`: faster, and a power cut may lose what was acknowledged |
"""

from __future__ import annotations

import os
from pathlib import Path

from tapfs.errors import TapfsError

CONTROL_VARIABLE = "TAPFS_CONTROL"
APP_VARIABLE = "TAPFS_APP"
BROKER_VARIABLE = "TAPFS_BROKER"
DATA_VARIABLE = "TAPFS_DATA"
MAX_RUNNING_VARIABLE = "TAPFS_MAX_RUNNING_S"
SYNC_VARIABLE = "TAPFS_SYNC"

#: The Celery app with the built-in operations.
BUILT_IN_APP = "tapfs.flow.app:app"


def control_path() -> Path:
    """The control directory, as it is named; not made here."""
    return Path(os.environ.get(CONTROL_VARIABLE) or "control")


def app_name() -> str:
    """`MODULE:APP` of the Celery app."""
    return os.environ.get(APP_VARIABLE) or BUILT_IN_APP


def broker() -> str | None:
    """The broker's URL; None for the embedded one."""
    return os.environ.get(BROKER_VARIABLE) or None


def data_path() -> Path:
    """The folder for inputs and outputs; not made here."""
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def number(variable: str, kind: type[int] | type[float]) -> float | None:
    """A number that the environment sets; None where it does not.

    Raises:
        TapfsError: what it sets is no such number above 0.
    """
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        found = kind(text)
    except ValueError:
        found = kind(0)
    if not 0 < found < float("inf"):
        what = "a whole number from 1" if kind is int else "a number above 0"
        raise TapfsError(f"{variable} is '{text}': it must be {what}", hint="correct it, or leave it out")
    return found


def is_synced() -> bool:
    """Whether what tapfs writes is to survive a power cut."""
    return os.environ.get(SYNC_VARIABLE) != "off"


def check_sync() -> None:
    """Raise `TapfsError` where `TAPFS_SYNC` is neither `on` nor `off`."""
    text = os.environ.get(SYNC_VARIABLE)
    if text not in (None, "", "on", "off"):
        raise TapfsError(f"{SYNC_VARIABLE} is '{text}': it must be on or off", hint="correct it, or leave it out")


def user_name() -> str:
    """Who runs this process, for owners and journals."""
    import getpass  # 3 ms, for those who only ask where things are

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return str(os.getuid())
