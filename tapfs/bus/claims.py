"""Claims: which steps are out, and which process runs them.

`claims/<path>` appears when a step is put out, unlocked and with no holder. The worker that takes it replaces it by a
file that names the holder and is locked by it from the first instant of its name. When the lock is free and a holder
is named, that holder died. Everything here runs under the operation's lock; `Out.is_held` is true of that moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.fields import Faulty
from tapfs.bus.layout import OperationLayout
from tapfs.bus.locks import ClaimLock, is_held
from tapfs.bus.plan import Step
from tapfs.bus.records import LARGE, SMALL, Checkpoint, Claim, Holder


@dataclass(frozen=True)
class Out:
    """A step that is out.

    Attributes:
        path: the step's path.
        claim: its record; None where the file is no record (somebody wrote into it).
        is_held: whether a living process holds it.
        has_progressed: whether the holder that died had saved a checkpoint.
    """

    path: str
    claim: Claim | None
    is_held: bool
    has_progressed: bool = False

    @property
    def is_dead(self) -> bool:
        """Whether its holder died: it names one, and the lock is free."""
        return not self.is_held and self.claim is not None and self.claim.holder is not None


class HeldClaim:
    """The exclusive right of this process to run one step.

    Attributes:
        step: the step.
        claim: the record as it stands on disk.
    """

    def __init__(self, step: Step, claim: Claim, lock: ClaimLock) -> None:
        self.step = step
        self.claim = claim
        self._lock = lock

    def is_ours(self) -> bool:
        """Say whether the right still stands; it does not once the step was given to another."""
        return self._lock.is_ours()

    def release(self) -> None:
        """Give up the lock, without touching the file."""
        self._lock.release()


def all_out(layout: OperationLayout) -> list[Out]:
    """Return every step that is out, in the order of their paths."""
    outs = [
        Out(path, _read(layout.claim(path)), is_held(str(layout.claim(path)))) for path in sorted(_paths(layout.claims))
    ]
    return [replace(out, has_progressed=_has_progressed(layout, out)) if out.is_dead else out for out in outs]


def put_out(layout: OperationLayout, path: str, claim: Claim) -> None:
    """Note durably that a step is out, with no holder; takes the place of a claim whose holder is gone."""
    target = layout.claim(path)
    files.make_dirs(target.parent, layout.folder)
    files.replace(target, claim.encode())


def take(layout: OperationLayout, step: Step, claim: Claim, holder: Holder) -> HeldClaim:
    """Make the unheld claim this process's own."""
    held = replace(claim, holder=asdict(holder), trouble=None)
    return HeldClaim(step, held, ClaimLock.place(str(layout.claim(step.path)), held.encode()))


def drop(layout: OperationLayout, path: str) -> None:
    """Take a step in. Not synced: a claim that a power cut brings back has no living holder, and is dropped again."""
    files.remove(layout.claim(path))


def _has_progressed(layout: OperationLayout, out: Out) -> bool:
    """Whether the step's checkpoint is of the attempt that died."""
    target = layout.steps / out.path
    for path in target.parent.glob(f"{target.name}-*.checkpoint.json"):
        try:
            saved = Checkpoint.decode(files.read_bytes(path, LARGE))
        except (OSError, Faulty):
            continue
        if out.claim is not None and (saved.epoch, saved.attempt) == (out.claim.epoch, out.claim.attempt):
            return True
    return False


def _paths(folder: Path) -> Iterator[str]:
    """The paths of all claims, also of members in folders of their own."""
    for base, _, names in os.walk(folder):
        for name in names:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(base, name), folder)


def _read(path: Path) -> Claim | None:
    try:
        return Claim.decode(files.read_bytes(path, SMALL))
    except (OSError, Faulty):
        return None
