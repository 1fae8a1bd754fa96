"""What the environment sets, read in one place, when it is asked for.

| variable | default | what |
| --- | --- | --- |
| `TAPFS_CONTROL` | `control` | the control directory |
| `TAPFS_APP` | the built-in one | `MODULE:APP` of the Celery app |
| `TAPFS_BROKER` | the embedded broker | a broker URL of Celery's |
| `TAPFS_DATA` | `data` | where inputs and outputs lie |
"""

from __future__ import annotations

import os
from pathlib import Path

CONTROL_VARIABLE = "TAPFS_CONTROL"
APP_VARIABLE = "TAPFS_APP"
BROKER_VARIABLE = "TAPFS_BROKER"
DATA_VARIABLE = "TAPFS_DATA"

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


def user_name() -> str:
    """Who runs this process, for owners and journals."""
    import getpass  # 3 ms, for those who only ask where things are

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return str(os.getuid())
