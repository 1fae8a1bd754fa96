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

from tapfs.bus.fields import Faulty, Field, check_object, shown
from tapfs.bus.layout import ID
from tapfs.bus.publication import Publication
from tapfs.errors import TapfsError

HEADER = "tapfs"

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
