"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.fields import Json
from tapfs.errors import RecordInvalid


class Severity(StrEnum):
    """How much a finding matters."""

    #: Somebody should see to it.
    FAULT = "fault"
    #: Worth knowing; nothing needs to be done.
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        path: the file or folder.
        severity: how much it matters.
        text: what is wrong with it.
        advice: what to do, or what becomes of it; None for nothing.
    """

    path: str
    severity: Severity
    text: str
    advice: str | None = None

    def document(self) -> dict[str, Json]:
        """The finding as JSON: `{"path", "severity", "text", "advice"}`."""
        return asdict(self)


class Findings(list[Finding]):
    """Findings as they are made."""

    def fault(self, path: Path, text: str, advice: str | None = None) -> None:
        """Note something that somebody should see to."""
        self.append(Finding(str(path), Severity.FAULT, text, advice))

    def note(self, path: Path, text: str, advice: str | None = None) -> None:
        """Note something worth knowing."""
        self.append(Finding(str(path), Severity.NOTE, text, advice))

    def unreadable(self, path: Path, error: RecordInvalid | OSError, advice: str | None = None) -> None:
        """Note a file that is not what it should be."""
        if isinstance(error, RecordInvalid):
            text = "; ".join(error.faults)
        elif isinstance(error, FileNotFoundError):
            text = "it is missing"
        else:
            text = f"it cannot be read: {error.strerror or error}"
        self.fault(path, text, advice)

    def stray(self, path: Path) -> None:
        """Note a file that tapfs does not know: a leftover of a process that died, or somebody's own."""
        if path.name.startswith((files.TEMPORARY_PREFIX, ".new-")):
            self.note(path, "it was left by a process that died while writing", "it can be removed")
        else:
            self.note(path, "tapfs knows no such file", "it does no harm")
