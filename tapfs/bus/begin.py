"""Beginning a step: taking the right to run it, as a message offers it.

A step runs only under its claim (law 3), which dies with its process. The directory is asked whether the message still
holds; one that does not has no effect, and is in the journal.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace

from tapfs.bus import claims, files
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.decide import PutOut
from tapfs.bus.doorbell import publish
from tapfs.bus.folder import OperationFolder
from tapfs.bus.reconcile import settle
from tapfs.bus.records import Claim, Holder
from tapfs.bus.requests import in_force, markers
from tapfs.bus.runs import read_run
from tapfs.bus.states import State, Want
from tapfs.errors import TapfsError


@dataclass(frozen=True)
class Dropped:
    """A message with no effect, and why."""

    reason: str


def claim_step(operation: OperationFolder, path: str, epoch: int, attempt: int, worker: str) -> HeldClaim | Dropped:
    """Take the right to run a step, as a message offers it.

    Returns:
        The claim, or why the message has no effect; a drop is in the journal.
    """
    held = None
    put_out: tuple[PutOut, ...] = ()
    try:
        with operation.locked():
            reason = _why_not(operation, path, epoch, attempt)
            if reason is None:
                step = operation.plan().step(path)
                claim = Claim.read(operation.layout.claim(path))
                holder = Holder(worker, socket.gethostname(), os.getpid(), timestamp(operation.now()))
                held = claims.take(operation.layout, step, claim, holder)
                _note_start(operation)
            else:
                details = {"step": path, "epoch": epoch, "attempt": attempt, "reason": reason}
                operation.note("dropped", **details)
            if held is None or not _is_in_line(operation):
                settled = settle(operation, operation.actor, can_publish=operation.publisher is not None)
                put_out = settled.put_out
        publish(operation, put_out)
    except BaseException:
        if held is not None:  # nobody will run the step, and its lock would look alive for as long as this process is
            give_up_step(operation, held)
        raise
    return held if held is not None else Dropped(reason or "")


def give_up_step(operation: OperationFolder, held: HeldClaim) -> None:
    """Let go of a step about which nothing can be written, on a full disk, say; whoever looks next puts it out anew.

    Taking the claim away needs no room. Where even that fails, the step is found as one whose worker was lost.
    """
    try:
        with operation.locked():
            if held.is_ours():
                claims.drop(operation.layout, held.step.path)
    except (OSError, TapfsError):
        pass  # what came before is what people should read
    finally:
        held.release()


def _is_in_line(operation: OperationFolder) -> bool:
    """Whether one more step at work changes nothing that anybody reads: the operation runs, and nothing else is asked.

    Then it is settled when the step ends, and by the scan; in a wide group that is half of what a member costs.
    """
    run, reading = read_run(operation), operation.state_file.read()
    view = reading.view
    if view is None or view.state != State.RUNNING or operation.state_file.is_watching():
        return False
    is_asked = (view.want, view.reason) != (run.want, run.reason) or markers(operation.control, operation.layout)
    return not is_asked and run.want == Want.RUN and run.outcome is None and run.running_since is not None


def _note_start(operation: OperationFolder) -> None:
    run = read_run(operation)
    if run.started_at is None:
        files.replace(operation.layout.run, replace(run, started_at=timestamp(operation.now())).encode())


def _why_not(operation: OperationFolder, path: str, epoch: int, attempt: int) -> str | None:
    """Why a message for a step may not be followed; None when it may. Under the operation's lock."""
    run = read_run(operation)
    plan = operation.plan()
    try:
        step = plan.step(path)
    except KeyError:
        return f"the plan has no step {path}"
    if operation.is_committed(step):
        return "the step is already committed"
    if run.outcome is not None:
        return f"the operation is {run.outcome}"
    if epoch != run.epoch:
        return f"the message is of epoch {epoch}, the operation in epoch {run.epoch}"
    if run.is_failing:
        return "another step of the operation has failed"
    progress = operation.progress(plan, run.epoch)
    progress.look()
    if not progress.is_open(step):
        is_given_up = any(files.exists(operation.layout.given_up(one)) for _, one in plan.members_around(step))
        return "its member was given up" if is_given_up else "a step before it is not committed"
    found = claims.find(operation.layout, path)
    if found is None or found.claim is None:
        return "the step is not out"
    if found.is_held:
        return f"the step is claimed by {found.claim.held_by.worker if found.claim.held_by else 'another'}"
    if found.is_dead:
        return f"the holder of attempt {found.claim.attempt} is gone; the step is published for the next one"
    if found.claim.attempt != attempt:
        return f"the message is of attempt {attempt}, the step at attempt {found.claim.attempt}"
    request = in_force(operation.control, operation.layout)
    if request.want is Want.CANCEL or (request.want is Want.PAUSE and progress.may_stop_before(step)):
        return f"{request.source} asks to {request.want}"
    return None
