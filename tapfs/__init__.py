"""tapfs: a file-based control bus for Celery.

Every operation, one run of a Celery workflow, is a directory: `touch PAUSE` in it and the workflow stops at its next
tap, `rm PAUSE` and it goes on where it was. The names below are all there is to know for using it from Python; they are
imported when first used, so that looking at operations costs no Celery.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapfs import testing
    from tapfs.bus.operation import Operation, OperationFailed, WaitedInVain
    from tapfs.bus.states import State, Want
    from tapfs.errors import TapfsError
    from tapfs.flow import tap
    from tapfs.flow.bus import Bus
    from tapfs.flow.fan_out import fan_out
    from tapfs.flow.gate import gate
    from tapfs.flow.parameters import Masked, Secret
    from tapfs.flow.sources import CsvFile, Source
    from tapfs.flow.tappable import tappable
    from tapfs.flow.task import TappableTask
    from tapfs.flow.then import then

__version__ = "0.1.0"

_HOMES = {
    "Bus": "tapfs.flow.bus",
    "CsvFile": "tapfs.flow.sources",
    "Masked": "tapfs.flow.parameters",
    "Operation": "tapfs.bus.operation",
    "OperationFailed": "tapfs.bus.operation",
    "Secret": "tapfs.flow.parameters",
    "Source": "tapfs.flow.sources",
    "State": "tapfs.bus.states",
    "TapfsError": "tapfs.errors",
    "TappableTask": "tapfs.flow.task",
    "WaitedInVain": "tapfs.bus.operation",
    "Want": "tapfs.bus.states",
    "fan_out": "tapfs.flow.fan_out",
    "gate": "tapfs.flow.gate",
    "tappable": "tapfs.flow.tappable",
    "then": "tapfs.flow.then",
}

_MODULES = {"tap": "tapfs.flow.tap", "testing": "tapfs.testing"}

__all__ = [
    "Bus",
    "CsvFile",
    "Masked",
    "Operation",
    "OperationFailed",
    "Secret",
    "Source",
    "State",
    "TapfsError",
    "TappableTask",
    "WaitedInVain",
    "Want",
    "fan_out",
    "gate",
    "tap",
    "tappable",
    "testing",
    "then",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tapfs' has no attribute '{name}'")
