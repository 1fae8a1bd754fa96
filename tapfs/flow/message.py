"""The message of a step: which step, in which epoch, which attempt, and nothing else (law 2).

It is Celery's own message without arguments; tapfs's part is one header. Arguments and results stay in the directory.

```
tapfs: {"operation": "20261122-101502-tally-k7f3q2", "step": "0003", "epoch": 1, "attempt": 1}
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError

from tapfs.bus.fields import Faulty, Field, check_object
from tapfs.bus.publication import Publication, Publisher
from tapfs.errors import PublishFailed

HEADER = "tapfs"

_HEADER_FIELDS = {
    "operation": Field((str,), required=True),
    "step": Field((str,), required=True),
    "epoch": Field((int,), required=True),
    "attempt": Field((int,), required=True),
}


@dataclass(frozen=True)
class StepHeader:
    """What a step's message says."""

    operation: str
    step: str
    epoch: int
    attempt: int


def header_of(request: Any) -> StepHeader | None:
    """Read the header from a task's request; None for a task that is no step of an operation."""
    found = (getattr(request, "headers", None) or {}).get(HEADER)
    if not isinstance(found, dict):
        return None
    try:
        return StepHeader(**check_object(found, _HEADER_FIELDS, strict=False))
    except Faulty:
        return None


def header_for(publication: Publication) -> dict[str, Any]:
    """Write the header of a publication."""
    return {
        "operation": publication.operation_id,
        "step": publication.step.path,
        "epoch": publication.epoch,
        "attempt": publication.attempt,
    }


def task_id_of(publication: Publication) -> str:
    """A task id that people can read in Flower, and that differs for every publishing."""
    place = publication.step.label.replace("/", ".")
    return f"{publication.operation_id}.{place}.{publication.epoch}.{publication.attempt}.{publication.number}"


def publisher_for(app: Celery) -> Publisher:
    """Return what publishes steps through a Celery app."""

    def publish(publication: Publication) -> None:
        options = dict(publication.step.options)
        for timed in ("countdown", "eta"):
            options.pop(timed, None)
        headers = {**(options.pop("headers", None) or {}), HEADER: header_for(publication)}
        try:
            app.send_task(
                publication.step.task,
                task_id=task_id_of(publication),
                headers=headers,
                retries=publication.retries,
                eta=publication.not_before,
                **options,
            )
        except (OperationalError, ImproperlyConfigured, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PublishFailed(f"the broker did not take it: {reason}") from error

    return publish
