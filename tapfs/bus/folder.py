"""One operation's folder: its files, its lock, and what this process remembers of it.

It decides nothing: how the files are brought in line is in `reconcile`, what a worker does to a step in `steps`, what
people ask in `verbs`, and the face of it all in `operation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.clock import Clock
from tapfs.bus.decide import Recovery
from tapfs.bus.fields import Json
from tapfs.bus.journal import Journal
from tapfs.bus.layout import ControlLayout, OperationLayout
from tapfs.bus.locks import FolderLock
from tapfs.bus.plan import Plan, Step
from tapfs.bus.planfile import read_plan
from tapfs.bus.progress import Progress
from tapfs.bus.publication import Publisher
from tapfs.bus.records import LARGE, Commit, Identity
from tapfs.bus.statefile import StateFile
from tapfs.errors import OperationUnknown, RecordInvalid


class OperationFolder:
    """One operation of a control directory.

    Args:
        control: the layout of its control directory.
        folder: its own folder.
        publisher: how to publish; None for those who only look or ask.
        actor: who acts through this object, for the journal, e.g. `cli:ada`.
        clock: the wall clock.
        recovery: when to publish again.
    """

    def __init__(
        self,
        control: ControlLayout,
        folder: Path,
        *,
        publisher: Publisher | None = None,
        actor: str = "tapfs",
        clock: Clock = time.time,
        recovery: Recovery | None = None,
    ) -> None:
        self.control = control
        self.layout = OperationLayout(folder)
        self.publisher = publisher
        self.actor = actor
        self.now = clock
        self.recovery = recovery or Recovery()
        self.journal = Journal(self.layout.journal)
        self.state_file = StateFile(self.layout)
        self._lock = FolderLock(folder, "operation.json")
        self._plan: Plan | None = None
        self._progress: tuple[int, Progress] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def id(self) -> str:
        """Its name, e.g. `20261122-101502-tally-k7f3q2`."""
        return self.layout.id

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.layout.folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the operation's lock for one read-decide-write (law 6).

        The plan is read before: it does not change, and a large one takes its time the first time.
        """
        with suppress(OSError, RecordInvalid):
            self.plan()
        with self._lock.held():
            yield

    def identity(self) -> Identity:
        """What it is; raises `OperationUnknown` when it is gone, `RecordInvalid` when `operation.json` is spoilt."""
        try:
            return Identity.read(self.layout.identity, LARGE)
        except FileNotFoundError:
            raise OperationUnknown(f"operation '{self.id}' is not there any more") from None

    def plan(self) -> Plan:
        """Its workflow; raises `FileNotFoundError`, or `RecordInvalid` where somebody has spoilt it."""
        self._plan = read_plan(str(self.layout.plan))
        return self._plan

    def known_plan(self) -> Plan:
        """Its workflow; where it cannot be read for now, as this object has read it last.

        For whoever ends a step: what was done must not be lost because somebody is just saving `workflow.json`.
        """
        try:
            return self.plan()
        except (FileNotFoundError, RecordInvalid):
            if self._plan is None:
                raise
            return self._plan

    def progress(self, plan: Plan, epoch: int) -> Progress:
        """How far the plan has come in that epoch; remembers what this object has seen of it."""
        known = self._progress
        if known is None or known[0] != epoch or known[1].plan is not plan:
            known = self._progress = (epoch, Progress(plan, self.layout))
        return known[1]

    def is_committed(self, step: Step) -> bool:
        """Say whether a step is done."""
        return files.exists(self.layout.commit(step))

    def result_of(self, step: Step) -> Json:
        """The result of a committed step."""
        return Commit.read(self.layout.commit(step), LARGE).result

    def note(self, event: str, by: str | None = None, /, **details: Json) -> None:
        """Journal something that changes no state."""
        self.journal.append(self.now(), event, by or self.actor, self.journal.last_state(), **details)

    def join_active(self) -> None:
        """Have it in the index of operations that are not final."""
        path = self.control.active / self.id
        if not files.exists(path):
            files.make_dir(self.control.active)
            files.replace(path, b"")

    def leave_active(self) -> None:
        """Take it out of that index; a folder that somebody made there stays, and costs a look at each scan."""
        with suppress(IsADirectoryError):
            files.remove(self.control.active / self.id)
