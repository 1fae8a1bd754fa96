"""The control directory: its format, its operations by name, and making a new one.

It is set up by the first who writes. A directory of a newer format is refused and left as it is. Reading verbs never
make anything.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.clock import Clock, timestamp
from tapfs.bus.copies import write_all
from tapfs.bus.decide import Recovery
from tapfs.bus.doorbell import reconcile
from tapfs.bus.fields import Json, encode, near, parse_object
from tapfs.bus.journal import Journal
from tapfs.bus.layout import ID, ControlLayout, OperationLayout
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan
from tapfs.bus.planfile import encode_plan
from tapfs.bus.publication import Publisher
from tapfs.bus.records import LARGE, Identity, Run, StateView
from tapfs.bus.states import State, Want
from tapfs.bus.verbs import check_reason
from tapfs.errors import ControlUnusable, OperationUnknown

#: What stands in `format`: the number rises when an older tapfs could not read the directory any more.
FORMAT = "tapfs 1\n"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class NewOperation:
    """What a new operation is made of.

    Attributes:
        name: the operation's name; what does not fit an id is left out there.
        plan: its workflow.
        arguments: what it was started with; masked: the names of those that are not shown.
        owner: whose it is.
        want, reason: `pause` starts it held.
        forked_from: which operation and step it was forked from; None for none.
        copies: files below `steps/` that it has from the start, each with where it is copied from.
    """

    name: str
    plan: Plan
    arguments: dict[str, Json]
    masked: tuple[str, ...] = ()
    owner: str | None = None
    want: Want = Want.RUN
    reason: str | None = None
    forked_from: dict[str, Json] | None = None
    copies: tuple[tuple[str, Path], ...] = ()


class Control:
    """A control directory.

    Args:
        folder: where it is.
        publisher: how operations of this object publish; None for those who only look or ask.
        actor: who acts, for journals.
        clock: the wall clock.
        recovery: when to publish again.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        publisher: Publisher | None = None,
        actor: str = "tapfs",
        clock: Clock = time.time,
        recovery: Recovery | None = None,
    ) -> None:
        self.layout = ControlLayout(Path(os.path.abspath(folder)))
        self.publisher = publisher
        self.actor = actor
        self.now = clock
        self.recovery = recovery or Recovery()
        self._operations: dict[str, Operation] = {}

    @property
    def path(self) -> Path:
        """Its folder, absolute."""
        return self.layout.folder

    def check(self) -> bool:
        """Say whether the directory is set up; raises `ControlUnusable` for a format that this tapfs does not know."""
        try:
            content = files.read_bytes(self.layout.format, 1024)
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            raise ControlUnusable(f"cannot use '{self.path}' as control directory: it is no folder") from None
        except OSError as error:
            raise ControlUnusable(f"cannot read '{self.layout.format}': {error.strerror}") from error
        if content != FORMAT.encode():
            found = content.decode("utf-8", "replace").strip()[:40]
            raise ControlUnusable(
                f"cannot use '{self.path}': its format is '{found}', this tapfs knows '{FORMAT.strip()}'",
                hint="a newer tapfs wrote it: upgrade, or name another directory with --control; nothing was changed",
            )
        return True

    def prepare(self) -> None:
        """Set the directory up if it is not. Raises `ControlUnusable` where that cannot be done."""
        if self.check():
            return
        try:
            self._make_folder(self.path)
            for folder in (self.layout.operations, self.layout.active):
                files.make_dir(folder)
            files.replace(self.layout.format, FORMAT.encode())
        except OSError as error:
            raise ControlUnusable(
                f"cannot set up '{self.path}' as control directory: {error.strerror}",
                hint="name another with --control or TAPFS_CONTROL",
            ) from error

    def _make_folder(self, path: Path) -> None:
        """Make a folder and those above it, each durably."""
        if not path.is_dir():
            self._make_folder(path.parent)
            files.make_dir(path)

    def start(self, new: NewOperation) -> Operation:
        """Make an operation, durably, and publish its first step.

        It appears whole or not at all. If the broker does not take the message the operation is kept, `queued`, with
        the reason in `message`, and is published later.

        Raises:
            ControlUnusable: the directory cannot be written; no operation was made, unless the message says that it is
                there.
            TapfsError: the reason is too long or holds control characters; no operation was made.
        """
        check_reason(new.reason)
        self.prepare()
        operation_id = self._free_id(new.name)
        operation = self.operation(operation_id)
        made = self.layout.operations / f".new-{operation_id}"
        try:
            self._build(made, operation_id, new)
            # Indexed before it is there: an index entry without an operation is harmless, the other way round is lost.
            operation.join_active()
            os.rename(made, operation.path)
        except BaseException as error:
            import shutil  # 4 ms, for once in a while

            shutil.rmtree(made, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            with suppress(OSError):
                operation.leave_active()
            raise ControlUnusable(
                f"cannot make an operation in '{self.path}': {error.strerror}", hint="nothing was started"
            ) from error
        try:
            files.sync_dir(self.layout.operations)
        except OSError as error:
            raise ControlUnusable(
                f"operation '{operation_id}' is there, but a power cut may undo that: "
                f"cannot sync '{self.layout.operations}': {error.strerror}",
                hint="see to the disk; a worker or supervisor will run it",
            ) from error
        reconcile(operation)
        return operation

    def _build(self, folder: Path, operation_id: str, new: NewOperation) -> None:
        """Write a new operation's files under a name that nobody looks at."""
        layout = OperationLayout(folder)
        now = self.now()
        for made in (folder, layout.steps, layout.claims):
            os.mkdir(made, files.DIR_MODE)
        identity = Identity(
            id=operation_id,
            operation=new.name,
            arguments=new.arguments,
            masked=list(new.masked),
            owner=new.owner,
            created_at=timestamp(now),
            forked_from=new.forked_from,
        )
        view = StateView(
            want=new.want.value,
            reason=new.reason,
            state=State.QUEUED.value,
            step=new.plan.steps[0].label,
            steps_total=len(new.plan.steps),
            epoch=1,
            updated_at=timestamp(now),
        )
        run = Run(epoch=1, want=new.want.value, reason=new.reason, asked_by=self.actor)
        for path, content in (
            (layout.identity, identity.encode()),
            (layout.plan, encode_plan(new.plan)),
            (layout.run, run.encode()),
            (layout.state, view.encode()),
        ):
            os.rename(files.write_temporary(folder, content), path)
        # Of no run of this operation's own.
        copies = (
            (name, encode(parse_object(files.read_bytes(source, LARGE)) | {"epoch": 0})) for name, source in new.copies
        )
        write_all(layout.steps, copies)
        origin = {"forked_from": new.forked_from} if new.forked_from is not None else {}
        Journal(layout.journal).append(now, "created", self.actor, State.QUEUED, to=State.QUEUED, epoch=1, **origin)
        files.sync_dir(folder)

    def _free_id(self, name: str) -> str:
        moment = datetime.fromtimestamp(self.now(), UTC).strftime("%Y%m%d-%H%M%S")
        plain = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")[:40] or "operation"
        while True:
            tail = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(6))
            if not files.exists(self.layout.operations / f"{moment}-{plain}-{tail}"):
                return f"{moment}-{plain}-{tail}"

    def operation(self, operation_id: str) -> Operation:
        """The operation with that id, whether or not it is there; the same object each time while in memory."""
        known = self._operations.get(operation_id)
        if known is None:
            while len(self._operations) >= 256:
                self._operations.pop(next(iter(self._operations)), None)
            known = self._operations[operation_id] = Operation(
                self.layout,
                self.layout.operations / operation_id,
                publisher=self.publisher,
                actor=self.actor,
                clock=self.now,
                recovery=self.recovery,
            )
        return known

    def ids(self) -> list[str]:
        """The ids of all operations, oldest first."""
        if not self.check():
            return []
        return sorted(_names(self.layout.operations))

    def active_ids(self) -> list[str]:
        """The ids in the index of operations that are not final."""
        return sorted(_names(self.layout.active))

    def find(self, part: str) -> Operation:
        """The one operation whose id is, or contains, `part`.

        Raises:
            OperationUnknown: none does, or several do; the hint shows those that are near.
        """
        if ID.fullmatch(part) and files.exists(self.layout.operations / part / "operation.json"):
            self.check()
            return self.operation(part)
        ids = self.ids()
        found = [one for one in ids if part and part in one]
        if len(found) == 1:
            return self.operation(found[0])
        if found:
            raise OperationUnknown(
                f"'{part}' could be any of {len(found)} operations", hint="name one: " + _some(found[::-1])
            )
        if not ids:
            raise OperationUnknown(f"no operation '{part}': '{self.path}' has none", hint="'tapfs start' makes one")
        tails = {one.rpartition("-")[2]: one for one in ids} | {one: one for one in ids}
        close = near(part, tails)
        hint = f"there are: {_some(ids[::-1])}"
        if close:
            word = close.split("'")[1]
            hint = f"did you mean '{tails[word]}'?"
        raise OperationUnknown(f"no operation '{part}' in '{self.path}'", hint=hint)


def _names(folder: Path) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    yield from (name for name in names if ID.fullmatch(name))


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
