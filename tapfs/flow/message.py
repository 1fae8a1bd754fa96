"""The message of a step: which step, in which epoch, which attempt, and nothing else (law 2).

It is Celery's own message without arguments; tapfs's part is one header. Arguments and results stay in the directory.

```
tapfs: {"operation": "20261122-101502-tally-k7f3q2", "step": "0003", "epoch": 1, "attempt": 1}
```

In all it has less than 1 KB, unless the task's or the queue's own name, or headers of the user's, are very long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import Celery

from tapfs.bus.fields import Faulty, Field, check_object, shown
from tapfs.bus.layout import ID
from tapfs.bus.publication import Publication, Publisher
from tapfs.errors import PublishFailed, TapfsError

HEADER = "tapfs"

#: What Celery's worker takes for a header of its own that is absent.
_ABSENT: dict[str, Any] = {
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}

_HEADER_FIELDS = {
    "operation": Field((str,), required=True),
    "step": Field((str,), required=True),
    "epoch": Field((int,), required=True),
    "attempt": Field((int,), required=True),
}


class HeaderInvalid(TapfsError):
    """A message has a header of tapfs's that says nothing valid; it has no effect."""


@dataclass(frozen=True)
class StepHeader:
    """What a step's message says."""

    operation: str
    step: str
    epoch: int
    attempt: int


def header_of(request: Any) -> StepHeader | None:
    """Read the header from a task's request; None for a task that is no step of an operation.

    Raises:
        HeaderInvalid: there is one, but not such a one. The task must not be run: it would have no arguments.
    """
    headers = getattr(request, "headers", None) or {}
    if HEADER not in headers:
        return None
    found = headers[HEADER]
    if not isinstance(found, dict):
        raise HeaderInvalid(f"the header '{HEADER}' holds {shown(found)} where an object is needed")
    try:
        header = StepHeader(**check_object(found, _HEADER_FIELDS, strict=False))
    except Faulty as error:
        raise HeaderInvalid(f"the header '{HEADER}': {error}") from None
    if not ID.fullmatch(header.operation):  # it becomes part of a path
        raise HeaderInvalid(f"the header '{HEADER}': {shown(header.operation)} is no operation's id")
    return header


def header_for(publication: Publication) -> dict[str, Any]:
    """Write the header of a publication."""
    return {
        "operation": publication.operation_id,
        "step": publication.step.path,
        "epoch": publication.epoch,
        "attempt": publication.attempt,
    }


def task_id_of(publication: Publication) -> str:
    """A task id that people can read in Flower, and that differs for every publishing.

    For instance `20261122-101502-tally-k7f3q2.0003.1.1.1`: operation, step, epoch, attempt, publishing.
    """
    place = publication.step.path.replace("/", ".")
    return f"{publication.operation_id}.{place}.{publication.epoch}.{publication.attempt}.{publication.number}"


class _Brief:
    """A producer that leaves out of a message what says nothing: some 400 bytes of the kilobyte that it may have.

    Celery's signals still see everything.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, *, headers: dict[str, Any], **options: Any) -> Any:
        """Publish with fewer headers; the correlation id is the task's id again, and who sent it is in the journal."""
        options.pop("correlation_id", None)
        brief = {
            name: value
            for name, value in headers.items()
            if name != "origin" and (name not in _ABSENT or value != _ABSENT[name])
        }
        return self._producer.publish(body, headers=brief, **options)


def publisher_for(app: Celery) -> Publisher:
    """Return what publishes steps through a Celery app; whatever keeps it from doing so is a `PublishFailed`."""

    def publish(publication: Publication) -> None:
        options = dict(publication.step.options)
        for timed in ("countdown", "eta"):
            options.pop(timed, None)
        headers = {**(options.pop("headers", None) or {}), HEADER: header_for(publication)}
        try:
            with app.producer_or_acquire() as producer:
                app.send_task(
                    publication.step.task,
                    producer=_Brief(producer),
                    task_id=task_id_of(publication),
                    root_id=publication.operation_id,
                    headers=headers,
                    retries=publication.retries,
                    eta=publication.not_before,
                    serializer="json",  # never pickle, whatever the app's `task_serializer` is
                    **options,
                )
        except Exception as error:  # of the broker, its client, or Celery's routing: the step stays out, and it is said
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PublishFailed(f"the broker did not take it: {reason}") from error

    return publish
