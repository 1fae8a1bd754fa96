"""The one root of every error that tapfs raises for a person to read.

A message says what could not be done, where, why and what is now true; the hint says what to do next. Errors are
picklable with all their fields, because Celery carries them between processes.
"""

from __future__ import annotations

from typing import Any


class TapfsError(Exception):
    """Something a person or a program asked for could not be done.

    Args:
        message: what, where, why, and what is now true; one sentence without a full stop.
        hint: what to do next, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[TapfsError], args: tuple[Any, ...], fields: dict[str, Any]) -> TapfsError:
    """Make an error anew from its pickle, without running a subclass's own constructor."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ControlUnusable(TapfsError):
    """The control directory cannot be used as it is; nothing in it was changed."""


class OperationUnknown(TapfsError):
    """No operation, or more than one, goes by that name; nothing was changed."""


class LockTimeout(TapfsError):
    """Somebody has held a lock for too long, a frozen process perhaps; nothing was changed."""


class Refused(TapfsError):
    """A verb was refused because of the operation's state; nothing was changed."""


class RecordInvalid(TapfsError):
    """A file of the control directory does not hold what its format says.

    Attributes:
        path: the file.
        faults: every fault, each with its line or field.
    """

    def __init__(self, path: str, faults: tuple[str, ...], *, hint: str | None = None) -> None:
        super().__init__(f"cannot read '{path}': " + "; ".join(faults), hint=hint)
        self.path = path
        self.faults = faults


class ResultUnstorable(TapfsError):
    """A value is not what JSON can hold faithfully; nothing was written."""


class PublishFailed(TapfsError):
    """The broker did not take a message; the step stays out and is published again later."""


def text_of(error: TapfsError | OSError) -> str:
    """Say in a sentence, for a person, what went wrong; without Python's words for it."""
    if not isinstance(error, OSError):
        return str(error)
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"cannot use '{error.filename}': {reason}" if error.filename else f"the system refuses: {reason}"
