"""Failures: what `error.json` says, and the order in which a failed step is written down.

The error first, then the outcome, then the claim: whoever finds the operation after a death in between finds either a
step whose holder is gone, and runs it again, or an outcome with its error.
"""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus import claims, files
from tapfs.bus.clock import timestamp
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import Step
from tapfs.bus.records import Claim, Failure
from tapfs.bus.runs import read_run
from tapfs.bus.states import FINAL, State


def failure_of(operation: OperationFolder, step: Step, claim: Claim, kind: str, message: str) -> Failure:
    """Describe a failure that no task raised."""
    holder = claim.held_by
    return Failure(
        type=kind,
        message=message,
        step=step.label,
        attempt=claim.attempt,
        epoch=claim.epoch,
        worker=holder.worker if holder is not None else None,
        failed_at=timestamp(operation.now()),
    )


def write_failure(operation: OperationFolder, path: str, failure: Failure) -> None:
    """Write down that the step at `path` failed, and take it in. Under the operation's lock."""
    run = read_run(operation)
    files.replace_own(operation.layout.error, failure.encode())
    if run.outcome not in FINAL:
        files.replace(operation.layout.run, replace(run, outcome=State.FAILED.value).encode())
    claims.drop(operation.layout, path)
