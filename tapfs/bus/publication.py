"""What is published: the doorbell for a step that is out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tapfs.bus.plan import Step


@dataclass(frozen=True)
class Publication:
    """One message to publish.

    Attributes:
        operation_id, epoch, attempt: what the message carries, beside the step's path.
        step: whose task and options it is sent with.
        number: how often this attempt was published, with this one.
        retries: Celery's own count.
        not_before: RFC 3339 time before which it is not to run, or None.
    """

    operation_id: str
    step: Step
    epoch: int
    attempt: int
    number: int
    retries: int
    not_before: str | None


#: Sends a message; raises `PublishFailed`. Called without any lock held.
Publisher = Callable[[Publication], None]
