"""What a check found, and what `repair` would do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tapfs.bus.fields import Json
from tapfs.errors import RecordInvalid


class Severity(StrEnum):
    """How much a finding matters."""

    #: Somebody should see to it.
    FAULT = "fault"
    #: Worth knowing; nothing needs to be done.
    NOTE = "note"


class Remedy(StrEnum):
    """What `repair` does about a finding. In the order in which it does so: what the others need comes first."""

    #: Move it to the operation's `attic/repair-<n>/`; what has no such place gets the name `<name>.rejected-<n>`.
    PUT_ASIDE = "put aside"
    #: Make a folder that is missing.
    MAKE = "make"
    #: Write a file anew from the others; what was there is kept in the attic.
    WRITE = "write"
    #: Remove what tapfs itself has left: temporary files, index entries, folders of starts and workers that died.
    REMOVE = "remove"
    #: Bring the operation in line, as every verb and every supervisor does.
    RECONCILE = "reconcile"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        path: the file or folder.
        severity: how much it matters.
        text: what is wrong with it.
        advice: what `repair` does where there is a remedy; else what somebody can do, or what becomes of it by itself;
            None for nothing.
        remedy: how `repair` puts it right; None where tapfs does not understand it, or a person must decide.
        operation: the id of the operation it is about; None for what stands around them.
    """

    path: str
    severity: Severity
    text: str
    advice: str | None = None
    remedy: Remedy | None = None
    operation: str | None = None

    def document(self) -> dict[str, Json]:
        """The finding as JSON: `{"path", "severity", "text", "advice", "remedy", "operation"}`."""
        return asdict(self)


class Findings(list[Finding]):
    """Findings as they are made, about one operation, or about what stands around them."""

    def __init__(self, operation: str | None = None) -> None:
        super().__init__()
        self._operation = operation

    def fault(self, path: Path, text: str, advice: str | None = None, remedy: Remedy | None = None) -> None:
        """Tell of something that somebody should see to."""
        self.append(Finding(str(path), Severity.FAULT, text, advice, remedy, self._operation))

    def note(self, path: Path, text: str, advice: str | None = None, remedy: Remedy | None = None) -> None:
        """Tell of something worth knowing."""
        self.append(Finding(str(path), Severity.NOTE, text, advice, remedy, self._operation))

    def unreadable(
        self, path: Path, error: RecordInvalid | OSError, advice: str | None = None, remedy: Remedy | None = None
    ) -> None:
        """Tell of a file that is not what it should be; one that the system does not let us read has no remedy."""
        if isinstance(error, RecordInvalid):
            self.fault(path, "; ".join(error.faults), advice, remedy)
        elif isinstance(error, FileNotFoundError):
            self.fault(path, "it is missing", advice, remedy)
        else:
            self.fault(path, f"it cannot be read: {error.strerror or error}", "see to its permissions, or to the disk")

    def has(self, path: Path) -> bool:
        """Say whether there is a finding about that path."""
        return any(finding.path == str(path) for finding in self)
