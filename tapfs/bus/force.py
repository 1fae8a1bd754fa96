"""Force: ending the processes of steps that do not come to a tap (law 10).

The claim is voided first, under the operation's lock, and the process ended after that: so nothing it does in between
counts, and the operation is paused or cancelled also where its process is out of reach.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from tapfs.bus import claims
from tapfs.bus.clock import seconds_of
from tapfs.bus.doorbell import reconcile
from tapfs.bus.folder import OperationFolder
from tapfs.bus.losses import take_away
from tapfs.bus.records import Holder
from tapfs.bus.states import State
from tapfs.bus.verbs import Answer
from tapfs.bus.workers import FOREGROUND, worker_pids
from tapfs.errors import Refused

#: Seconds that a step has to come to a tap before its process is ended.
GRACE_S = 10.0
_STOPPING = (State.PAUSING, State.CANCELLING)


def force(operation: OperationFolder, grace_s: float = GRACE_S) -> Answer:
    """End the processes of an operation's steps, if they were asked to stop long enough ago.

    What a step had not saved is done again when the operation goes on.

    Args:
        operation: the operation.
        grace_s: nothing is ended before it is pausing or cancelling for so many seconds.

    Raises:
        Refused: it is not pausing or cancelling, or not for long enough; nothing was changed.
    """
    state = reconcile(operation).state
    if state not in _STOPPING:
        raise Refused(
            f"cannot force operation '{operation.id}': it is {state}", hint="ask it to pause or to be cancelled first"
        )
    since_s = _seconds_in(operation, state)
    if since_s < grace_s:
        raise Refused(
            f"cannot force operation '{operation.id}' yet: it is {state} for {since_s:.1f} s only",
            hint=f"its step may come to a tap: wait until it is {grace_s:g} s, or name a shorter time with --grace",
        )
    ends = [end for out in claims.all_out(operation.layout) if (end := _end(operation, out)) is not None]
    after = reconcile(operation).state
    return Answer(
        operation.id, True, bool(ends), after.value, f"{after}: " + ("; ".join(ends) or "nothing was running")
    )


def _end(operation: OperationFolder, out: claims.Out) -> str | None:
    """End the step's process; says what became of it, None where nobody held the step any more."""
    if not out.is_held:
        return None
    try:
        file = os.lstat(operation.layout.claim(out.path))
    except OSError:
        return None
    if not take_away(operation, out, f"force by {operation.actor}"):
        return None
    holder = out.claim.held_by if out.claim is not None else None
    name = f"process {holder.pid} of step {out.path} on {holder.host}" if holder else f"the process of step {out.path}"
    if holder is not None and _does_more(operation, holder):
        return f"{name} does other work, too, and was left; what it does for this step counts no more"
    if holder is not None and _kill(holder, file):
        return f"{name} was ended"
    return f"{name} could not be ended from here, but nothing it does counts any more"


def _does_more(operation: OperationFolder, holder: Holder) -> bool:
    """Whether the process is no pool's child: a worker itself (threads, solo), or somebody's terminal (`tapfs run`)."""
    return holder.worker.startswith(FOREGROUND) or holder.pid in worker_pids(operation.control, holder.host)


def _kill(holder: Holder, file: os.stat_result) -> bool:
    """Kill the holder, if it is a process of this machine that has the claim's file open: numbers are used again."""
    if holder.host != socket.gethostname() or not _has_open(holder.pid, file):
        return False
    try:
        os.kill(holder.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has that file open; False also where that cannot be seen."""
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = link.stat()
            except OSError:  # closed meanwhile
                continue
            if (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino):
                return True
    except OSError:
        return False
    return False


def _seconds_in(operation: OperationFolder, state: State) -> float:
    """How long the operation has been in that state, by its journal."""
    began = None
    for entry in operation.journal.entries():
        if entry.get("event") == "state":
            began = seconds_of(entry.get("at")) if entry.get("to") == state else None
    return 0.0 if began is None else operation.now() - began
