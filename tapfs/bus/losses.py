"""What others do about a step that its holder cannot end, and about a message that its worker cannot follow.

The holder writes the end of its own step (`steps`). Here are those who see it lost: the parent of its process, the
supervisor, a person with `--force`. Law 3 keeps each right at whatever instant it comes: under the operation's lock
the claim must still be of that epoch and attempt, and once it is voided or removed, nothing that its holder brings is
taken. So these, too, may come late, twice, or at the same time from several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tapfs.bus import claims, files
from tapfs.bus.claims import Out
from tapfs.bus.clock import timestamp
from tapfs.bus.doorbell import publish
from tapfs.bus.failures import failure_of, write_failure
from tapfs.bus.folder import OperationFolder
from tapfs.bus.reconcile import WORKER_LOST, settle
from tapfs.bus.records import LARGE, LONGEST_TROUBLE, Claim, Failure
from tapfs.bus.runs import read_run
from tapfs.bus.states import State
from tapfs.bus.workers import living_workers
from tapfs.errors import RecordInvalid

#: So many times more often a step may be refused while a worker lives that was not asked: half an hour, as delays are.
_PATIENCE = 20
#: The most workers that are remembered to have refused a step.
_MOST_NAMED = 50


def give_away(operation: OperationFolder, path: str, epoch: int, attempt: int, because: str) -> bool:
    """Take a step from a holder that is frozen, out of reach, or to be ended; another may run it.

    Returns:
        Whether that attempt was held, and is not any more; what its holder brings from now on is refused.
    """

    def void(out: Out, _: Claim) -> bool:
        if out.is_held:
            claims.void(operation.layout, out, because)
            _note_lost(operation, out, attempt, because)
        return out.is_held

    return _change(operation, path, epoch, attempt, void)


def take_away(operation: OperationFolder, out: Out, because: str) -> bool:
    """Take a step from its holder, also where somebody wrote into its claim; says whether it had it."""
    if out.claim is None:
        return take_unreadable(operation, out.path, because)
    return give_away(operation, out.path, out.claim.epoch, out.claim.attempt, because)


def take_unreadable(operation: OperationFolder, path: str, because: str) -> bool:
    """Take a step from a holder whose claim somebody wrote into, so that nobody can say who it is.

    Returns:
        Whether there was such a holder.
    """
    with operation.locked():
        out = claims.find(operation.layout, path)
        if out is None or out.claim is not None or not out.is_held:
            return False
        claims.drop(operation.layout, path)
        operation.note("lost", step=path, epoch=None, attempt=None, worker=None, reason=because)
        settled = settle(operation, operation.actor, can_publish=operation.publisher is not None)
    publish(operation, settled.put_out)
    return True


def note_loss(operation: OperationFolder, path: str, epoch: int, attempt: int, lost_to: str) -> None:
    """Write down how a holder came to its end, as only the parent of its process knows, and see to the step at once."""

    def note(out: Out, claim: Claim) -> bool:
        if not out.is_held:
            claims.put_out(operation.layout, path, replace(claim, lost_to=lost_to))
            _note_lost(operation, out, attempt, lost_to)
        return not out.is_held

    if not _change(operation, path, epoch, attempt, note):
        with operation.locked():  # whoever found the claim free was faster
            operation.note("lost", step=path, epoch=epoch, attempt=attempt, worker=None, reason=lost_to)
            _complete_failure(operation, epoch, attempt, lost_to)


def fail_out(
    operation: OperationFolder, path: str, epoch: int, attempt: int, kind: str, message: str, worker: str | None = None
) -> bool:
    """Fail a step from outside its process: it ran over its hard time limit, or its message has expired.

    Returns:
        Whether that attempt was out; the operation has failed with it.
    """

    def fail(out: Out, claim: Claim) -> bool:
        step = operation.plan().step(path)
        failure = failure_of(operation, step, replace(claim, attempt=attempt), kind, message)
        write_failure(operation, path, replace(failure, worker=failure.worker or worker))
        return True

    return _change(operation, path, epoch, attempt, fail)


def refuse(
    operation: OperationFolder,
    path: str,
    epoch: int,
    attempt: int,
    kind: str,
    trouble: str,
    worker: str | None = None,
) -> None:
    """Note that a worker cannot run a step at all, for it knows no such task; after too many of these it fails.

    Others may know the task, or this worker after its next start: so it is published again, after the usual delay. As
    long as another worker lives that has not been asked, that goes on for long: one of old code that is left over from
    a deploy answers fast, and gets most messages.
    """

    def note(out: Out, claim: Claim) -> bool:
        if out.is_held or out.is_dead:
            return False
        crashes = claim.crashes + 1
        refused_by = sorted({*claim.refused_by, *([worker] if worker else [])})[:_MOST_NAMED]
        may_be_known = not living_workers(operation.control) <= set(refused_by)
        most = operation.recovery.max_crashes * (_PATIENCE if may_be_known else 1)
        if crashes >= most:
            step = operation.plan().step(path)
            write_failure(operation, path, failure_of(operation, step, claim, kind, trouble))
        else:
            refused = replace(
                claim,
                attempt=claim.attempt + 1,  # so that the same message, doubled, does not count twice
                crashes=crashes,
                publishes=crashes,  # so that the delay grows
                published_at=timestamp(operation.now()),
                trouble=trouble[:LONGEST_TROUBLE],
                refused_by=refused_by,
            )
            claims.put_out(operation.layout, path, refused)
        return True

    _change(operation, path, epoch, attempt, note)


def pass_on(operation: OperationFolder, path: str, epoch: int, attempt: int) -> bool:
    """Publish a step's message again, at once, because the worker that got it is about to leave.

    Not where a stop is asked meanwhile: it is only made due, and whether it is put out is decided as ever (law 9).

    Returns:
        Whether that attempt was out and nobody's.
    """

    def make_due(out: Out, claim: Claim) -> bool:
        if out.is_held or out.is_dead:
            return False
        # The next attempt's first message is sent in any case; a repeat might be taken for one too many.
        due = replace(claim, attempt=claim.attempt + 1, publishes=0, published_at=None, not_before=None)
        claims.put_out(operation.layout, path, due)
        return True

    return _change(operation, path, epoch, attempt, make_due)


def _change(
    operation: OperationFolder, path: str, epoch: int, attempt: int, change: Callable[[Out, Claim], bool]
) -> bool:
    """Change the claim of that attempt, if it is still out in a run that goes on; settle, and publish what follows."""
    with operation.locked():
        out = claims.find(operation.layout, path)
        if out is None or out.claim is None or not _is_of(out, out.claim, epoch, attempt):
            return False
        run = read_run(operation)
        if run.outcome is not None or run.epoch != epoch:  # it has ended, or is paused: the next run begins anew
            return False
        if not operation.known_plan().has(path):  # somebody has edited it
            claims.drop(operation.layout, path)
            return False
        # A holder that died between its commit and the end of its claim has done its step.
        is_changed = not operation.is_committed(operation.known_plan().step(path)) and change(out, out.claim)
        settled = settle(operation, operation.actor, can_publish=operation.publisher is not None)
    publish(operation, settled.put_out)
    return is_changed


def is_current(operation: OperationFolder, path: str, epoch: int, attempt: int) -> bool:
    """Say whether that attempt of a step is out, or the one after its crash, in a run that goes on."""
    return _change(operation, path, epoch, attempt, lambda out, claim: True)


def _is_of(out: Out, claim: Claim, epoch: int, attempt: int) -> bool:
    """Whether a claim is of that attempt, or of the one after its crash that nobody has begun yet."""
    follows = claim.attempt == attempt + 1 and claim.cause == "crash" and claim.holder is None and not out.is_held
    return claim.epoch == epoch and (claim.attempt == attempt or follows)


def _note_lost(operation: OperationFolder, out: Out, attempt: int, lost_to: str) -> None:
    claim = out.claim
    holder = claim.held_by if claim is not None and claim.attempt == attempt else None
    worker = holder.worker if holder is not None else None
    epoch = claim.epoch if claim is not None else None
    operation.note("lost", step=out.path, epoch=epoch, attempt=attempt, worker=worker, reason=lost_to)


def _complete_failure(operation: OperationFolder, epoch: int, attempt: int, lost_to: str) -> None:
    """Say in `error.json` how the last holder ended, where the operation failed with it before anybody knew."""
    if read_run(operation).outcome != State.FAILED:
        return
    try:
        failure = Failure.read(operation.layout.error, LARGE)
    except (FileNotFoundError, RecordInvalid):
        return
    is_of_it = (failure.type, failure.epoch, failure.attempt) == (WORKER_LOST, epoch, attempt)
    if is_of_it and lost_to not in failure.message:
        told = replace(failure, message=f"{failure.message}, ended by {lost_to}")
        files.replace(operation.layout.error, told.encode())
        settle(operation, operation.actor, can_publish=False)
