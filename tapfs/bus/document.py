"""The stable document of an operation: what `show --json`, `list --json` and HTTP say of it.

```
{"id": "20261122-101502-tally-k7f3q2", "operation": "tally", "arguments": {"path": "data/people.csv"}, "owner": "ada",
 "state": "paused", "want": "pause", "reason": "lunch", "message": "held by PAUSE: lunch", "step": "0002-count",
 "steps_done": 1, "steps_total": 3, "done": 524288, "total": 1048576, "unit": "bytes", "epoch": 1,
 "created_at": "2026-11-22T10:15:02.001Z", "started_at": "2026-11-22T10:15:02.120Z",
 "updated_at": "2026-11-22T10:15:07.120Z", "finished_at": null, "running_s": 5.0, "eta_s": 5.0,
 "path": "/srv/control/operations/20261122-101502-tally-k7f3q2", "error": null}
```

Every field is always there; what is unknown is null. `want` and `reason` are those of the request in force, whoever
makes it. `running_s` and `eta_s` are seconds of work, without the time spent held. `error` is what `error.json` says.

It is read without the lock, a few small files an operation, so it was true of one moment, give or take. A spoilt file
leaves its fields null and is named in `message`; it never keeps an operation from being listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict

from tapfs.bus import files
from tapfs.bus.clock import seconds_of
from tapfs.bus.fields import Json
from tapfs.bus.operation import Operation
from tapfs.bus.records import LARGE, Checkpoint, Run
from tapfs.bus.requests import in_force
from tapfs.bus.states import FINAL
from tapfs.bus.view import strays
from tapfs.errors import OperationUnknown, TapfsError, text_of

#: Every field, in the order in which it is shown.
FIELDS = (
    "id",
    "operation",
    "arguments",
    "owner",
    "state",
    "want",
    "reason",
    "message",
    "step",
    "steps_done",
    "steps_total",
    "done",
    "total",
    "unit",
    "epoch",
    "created_at",
    "started_at",
    "updated_at",
    "finished_at",
    "running_s",
    "eta_s",
    "path",
    "error",
)
#: What is shown in place of a masked argument.
MASK = "***"

#: A step's label as tapfs writes it; `state.json` can be edited, and a label becomes part of a path here.
_LABEL = re.compile(r"[0-9]+(?:[./][0-9]+)*-[A-Za-z0-9_-]+")

Document = dict[str, Json]


def document_of(operation: Operation) -> Document:
    """Describe an operation.

    Raises:
        OperationUnknown: it is not there (any more).
    """
    found: Document = dict.fromkeys(FIELDS)
    found |= {"id": operation.id, "path": str(operation.path)}
    faults = []
    for part in _PARTS:
        try:
            found |= part(operation, found)
        except (TapfsError, OSError) as error:
            if not files.exists(operation.path):
                raise OperationUnknown(f"operation '{operation.id}' is not there any more") from None
            faults.append(text_of(error))
    said = [found["message"]] if found["message"] else []
    found["message"] = "; ".join(said + list(dict.fromkeys(faults))) or None
    return found


def eta_s(done: float | None, total: float | None, running_s: float | None) -> float | None:
    """Seconds of work left, by the pace so far; None when finished, at zero, or without a total."""
    if not done or not total or not running_s or done < 0 or done >= total:
        return None
    return round((total - done) * running_s / done, 1)


def checkpoint_of(operation: Operation, step: object) -> Checkpoint | None:
    """The checkpoint of the step with that label; None where there is none, or it is no label.

    Raises:
        RecordInvalid: it cannot be read.
    """
    if not isinstance(step, str) or not _LABEL.fullmatch(step):
        return None
    try:
        return Checkpoint.read(operation.layout.steps / f"{step}.checkpoint.json", LARGE)
    except FileNotFoundError:
        return None


def _identity(operation: Operation, _: Document) -> Document:
    identity = operation.identity()
    arguments = {key: MASK if key in identity.masked else value for key, value in identity.arguments.items()}
    return {
        "operation": identity.operation,
        "arguments": arguments,
        "owner": identity.owner,
        "created_at": identity.created_at,
    }


def _view(operation: Operation, _: Document) -> Document:
    view = operation.view()
    names = ("state", "message", "step", "steps_done", "steps_total", "epoch", "updated_at")
    return {name: getattr(view, name) for name in names}


def _request(operation: Operation, _: Document) -> Document:
    request = in_force(operation.control, operation.layout)
    return {"want": request.want.value, "reason": request.reason}


def _run(operation: Operation, _: Document) -> Document:
    run = Run.read(operation.layout.run)
    since = seconds_of(run.running_since)
    running_s = run.running_s + (0.0 if since is None else max(0.0, operation.now() - since))
    return {"started_at": run.started_at, "finished_at": run.finished_at, "running_s": round(running_s, 3)}


def _progress(operation: Operation, found: Document) -> Document:
    """How far the step at hand has come: what its checkpoint says."""
    checkpoint = None if found["state"] in FINAL else checkpoint_of(operation, found["step"])
    if checkpoint is None:
        return {}
    return {
        "done": checkpoint.done,
        "total": checkpoint.total,
        "unit": checkpoint.unit,
        "eta_s": eta_s(checkpoint.done, checkpoint.total, checkpoint.running_s),
    }


def _error(operation: Operation, _: Document) -> Document:
    failure = operation.failure()
    return {"error": None if failure is None else asdict(failure)}


def _hints(operation: Operation, found: Document) -> Document:
    hints = [f"'{name}' asks for nothing: did you mean '{meant}'?" for name, meant in strays(operation)]
    return {"message": "; ".join([found["message"], *hints] if found["message"] else hints) or None}


#: Each reads its own files; where one is spoilt, the others still tell what they know.
_PARTS: tuple[Callable[[Operation, Document], Document], ...] = (
    _identity,
    _view,
    _request,
    _run,
    _progress,
    _error,
    _hints,
)
