"""Rest: operations that are paused, and that nobody asks anything of. Most of what is active for long is paused.

To see that nothing has changed takes five looks at names, a hundredth of a reconcile.
"""

from __future__ import annotations

import os
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.layout import CANCEL, PAUSE, ControlLayout

#: What tells whether anybody has asked for anything.
Signs = tuple[files.Identity | None, ...]


class Rest:
    """Remembers how operations looked that were found at rest."""

    def __init__(self, control: ControlLayout) -> None:
        self._control = control
        self._known: dict[str, Signs] = {}

    def holds(self, operation_id: str) -> bool:
        """Say whether an operation is at rest still; one that is not is forgotten."""
        known = self._known.get(operation_id)
        if known is not None and known == self.signs_of(operation_id):
            return True
        self.forget(operation_id)
        return False

    def signs_of(self, operation_id: str) -> Signs:
        """How an operation looks now: its folder, its state file, and the markers."""
        layout = self._control.operation(operation_id)
        asking = (layout.folder, layout.state, layout.folder / PAUSE, layout.folder / CANCEL, self._control.pause)
        return tuple(_sign_of(path) for path in asking)

    def begin(self, operation_id: str, before: Signs) -> None:
        """Let an operation rest that was found paused; not where it looks other than before it was looked at."""
        if before == self.signs_of(operation_id):
            self._known[operation_id] = before

    def forget(self, operation_id: str) -> None:
        """Remember no more of an operation."""
        self._known.pop(operation_id, None)


def _sign_of(path: Path) -> files.Identity | None:
    try:
        return files.identity_of(os.lstat(path))
    except OSError:
        return None
