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
        has_progressed: whether the holder that died had got further and saved that.
        sign: changes while the holder lives (it gives a sign of life every few seconds); None where nobody holds it.
    """

    path: str
    claim: Claim | None
    is_held: bool
    has_progressed: bool = False
    sign: files.Identity | None = None

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

    @property
    def is_released(self) -> bool:
        """Whether this process has let go of it."""
        return self._lock.is_released

    def give_sign(self) -> None:
        """Show on the claim that its holder is alive, not only there: a frozen process keeps its lock."""
        self._lock.touch()

    def release(self) -> None:
        """Give up the lock, without touching the file."""
        self._lock.release()


def all_out(layout: OperationLayout) -> list[Out]:
    """Return every step that is out, in the order of their paths."""
    return [_look_at(layout, path) for path in sorted(_paths(layout.claims))]


def find(layout: OperationLayout, path: str) -> Out | None:
    """Return one step that is out; None when it is not."""
    return _look_at(layout, path) if files.exists(layout.claim(path)) else None


def put_out(layout: OperationLayout, path: str, claim: Claim) -> None:
    """Note durably that a step is out, with no holder; takes the place of a claim whose holder is gone."""
    target = layout.claim(path)
    files.make_dirs(target.parent, layout.folder)
    try:
        files.replace(target, claim.encode())
    except IsADirectoryError:  # somebody made a folder there, which must not keep the step from being run
        files.make_dirs(layout.attic, layout.folder)
        files.set_aside(target, layout.attic / f"claim-{path.replace('/', '-')}")
        files.replace(target, claim.encode())


def take(layout: OperationLayout, step: Step, claim: Claim, holder: Holder) -> HeldClaim:
    """Make the unheld claim this process's own."""
    held = replace(claim, holder=asdict(holder), trouble=None, lost_to=None)
    return HeldClaim(step, held, ClaimLock.place(str(layout.claim(step.path)), held.encode()))


def void(layout: OperationLayout, out: Out, lost_to: str) -> None:
    """Make a claim that is held look like that of a holder that died: nobody has a lock on the new file.

    From then on its holder finds that the claim is not its own, and nothing that it brings is taken (law 3).
    """
    if out.claim is not None:
        put_out(layout, out.path, replace(out.claim, lost_to=lost_to))


def drop(layout: OperationLayout, path: str) -> None:
    """Take a step in. Not synced: a claim that a power cut brings back has no living holder, and is dropped again."""
    target = layout.claim(path)
    files.remove(target)
    while (target := target.parent) != layout.claims:  # an empty folder would look like something that is out
        try:
            target.rmdir()
        except OSError:
            return


def has_progressed(layout: OperationLayout, path: str, claim: Claim) -> bool:
    """Say whether the step's checkpoint is of that claim's attempt: one is written only when there is news."""
    target = layout.steps / path
    for found in target.parent.glob(f"{target.name}-*.checkpoint.json"):
        try:
            saved = Checkpoint.decode(files.read_bytes(found, LARGE))
        except (FileNotFoundError, files.NotAFile, Faulty):
            continue
        if (saved.epoch, saved.attempt) == (claim.epoch, claim.attempt):
            return True
    return False


def _look_at(layout: OperationLayout, path: str) -> Out:
    target = layout.claim(path)
    out = Out(path, _read(target), is_held(str(target)))
    if out.is_held:
        return replace(out, sign=_sign_of(target))
    if out.is_dead and out.claim is not None:
        return replace(out, has_progressed=has_progressed(layout, path, out.claim))
    return out


def _sign_of(path: Path) -> files.Identity | None:
    try:
        return files.identity_of(os.lstat(path))
    except FileNotFoundError:
        return None


def _paths(folder: Path) -> Iterator[str]:
    """The paths of all claims, also of members in folders of their own."""
    for base, _, names in os.walk(folder, onerror=_raise_unless_gone):
        for name in names:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(base, name), folder)


def _raise_unless_gone(error: OSError) -> None:
    """Not seen is not the same as not out: a step whose claim was overlooked would be given to a second worker."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _read(path: Path) -> Claim | None:
    try:
        return Claim.decode(files.read_bytes(path, SMALL))
    except (FileNotFoundError, files.NotAFile, Faulty):
        return None
