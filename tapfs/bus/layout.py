"""Where everything stands below a control directory; nothing is read or written here."""

from __future__ import annotations

import re
from pathlib import Path

from tapfs.bus.plan import Part, Step

#: The name of an operation: `<UTC day>-<UTC second>-<operation>-<random>`; `fullmatch` only, `$` lets a newline pass.
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9_]{1,40}-[a-z0-9]{6}")

PAUSE = "PAUSE"
CANCEL = "CANCEL"
#: In a worker's folder: a person asks it to give its steps away and take no more.
DRAIN = "DRAIN"
#: In a worker's folder: it says so itself, because it is about to end.
STOPPING = "STOPPING"
#: The name of files that hold a displaced `state.json` until nobody has it open any more.
DISPLACED_PREFIX = ".state.json."

#: Every name that may stand in an operation's folder.
KNOWN = frozenset(
    {
        "operation.json",
        "workflow.json",
        "state.json",
        "run.json",
        "journal.jsonl",
        "result.json",
        "error.json",
        "lock",
        "steps",
        "claims",
        "attic",
        "gates",
        PAUSE,
        CANCEL,
    }
)


class OperationLayout:
    """The files of one operation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.identity = folder / "operation.json"
        self.plan = folder / "workflow.json"
        self.state = folder / "state.json"
        self.run = folder / "run.json"
        self.journal = folder / "journal.jsonl"
        self.result = folder / "result.json"
        self.error = folder / "error.json"
        self.steps = folder / "steps"
        self.claims = folder / "claims"
        self.attic = folder / "attic"
        self.gates = folder / "gates"

    def commit(self, step: Step) -> Path:
        """The file that shows the step is done."""
        return self.steps / f"{step.label}.json"

    def checkpoint(self, step: Step) -> Path:
        """The file with what the running step saved inside itself."""
        return self.steps / f"{step.label}.checkpoint.json"

    def once(self, step: Step) -> Path:
        """The file with the side effects that the running step has begun."""
        return self.steps / f"{step.label}.once.jsonl"

    def given_up(self, member: Part) -> Path:
        """The file that shows that a member of a group was given up, and why: it failed, or was cancelled."""
        return self.steps / f"{member.path}.error.json"

    def gate(self, step: Step) -> Path:
        """The folder with what a gate asks, and the answer that people put there."""
        return self.gates / step.label

    def attic_file(self, name: str, epoch: int) -> Path:
        """Where a file of that epoch is put aside."""
        return self.attic / f"epoch-{epoch}" / name

    def claim(self, path: str) -> Path:
        """The file that shows the step at `path` is out."""
        return self.claims / path


class ControlLayout:
    """The files of a control directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.format = folder / "format"
        self.pause = folder / PAUSE
        self.active = folder / "active"
        self.operations = folder / "operations"
        self.workers = folder / "workers"
        self.broker = folder / "broker"
        self.supervisor_lock = folder / "supervisor.lock"

    def operation(self, operation_id: str) -> OperationLayout:
        """The files of the operation with that id."""
        return OperationLayout(self.operations / operation_id)
