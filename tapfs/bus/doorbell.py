"""Reconcile and publish: the lock for the one, no lock for the other (law 6).

A message is only a doorbell: it is published after the claim it speaks of is on disk, may be lost or doubled, and is
published again while nobody follows it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from tapfs.bus import claims
from tapfs.bus.decide import PutOut
from tapfs.bus.folder import OperationFolder
from tapfs.bus.publication import Publication
from tapfs.bus.reconcile import Settled, settle
from tapfs.bus.records import LONGEST_TROUBLE
from tapfs.errors import PublishFailed, TapfsError


def reconcile(operation: OperationFolder) -> Settled:
    """Bring an operation's files in line with each other, and publish what follows from them."""
    with operation.locked():
        settled = settle(operation, operation.actor, can_publish=operation.publisher is not None)
    publish(operation, settled.put_out)
    return settled


def publish(operation: OperationFolder, put_out: tuple[PutOut, ...]) -> str | None:
    """Publish steps that were put out; called without the lock.

    Returns:
        Why not, where the broker did not take one: that stands in the operation's `message`, and the step is published
        again after a delay. None when all were taken.
    """
    if operation.publisher is None:
        return None
    trouble = None
    for one in put_out:
        claim = one.claim
        publication = Publication(
            operation.id, one.step, claim.epoch, claim.attempt, claim.publishes, claim.retries, claim.not_before
        )
        try:
            operation.publisher(publication)
        except PublishFailed as error:
            trouble = str(error)
            # What was done stands; the next try tells of the trouble again.
            with suppress(OSError, TapfsError):
                _note_trouble(operation, publication, trouble)
    return trouble


def _note_trouble(operation: OperationFolder, publication: Publication, trouble: str) -> None:
    """Write on the claim why its message is not out, unless it has moved on."""
    path = publication.step.path
    with operation.locked():
        out = claims.find(operation.layout, path)
        claim = out.claim if out is not None else None
        if claim is not None and claim.holder is None and claim.attempt == publication.attempt:
            claims.put_out(operation.layout, path, replace(claim, trouble=trouble[:LONGEST_TROUBLE]))
        settle(operation, operation.actor, can_publish=False)
