"""The files of a gate: what it asks, and what people answer.

`gates/<step>/request.json` is tapfs's, written when the gate is reached; a person may give it more time by editing
`expires_at`:

```
{"step": "0002-approve", "question": "Send 10,000 mails?", "fields": {"ok": {"type": "boolean", ...}},
 "default": null, "asked_at": "2026-11-22T10:15:07.120Z", "expires_at": null, "epoch": 1,
 "how": "save your answer beside this file as answer.json, like {\"ok\": true}; or: tapfs answer ID ...",
 "rejected": null, "closed": null, "answer": null, "answered_by": null}
```

`gates/<step>/answer.json` is people's, saved with any editor. What is in it counts when it fits, and is never lost when
it does not: it is set aside as `answer.json.rejected-<n>`. A text that is young or open for writing may still become an
answer, and is left alone. What is asked stands in the plan; `request.json` can be lost, and is written anew.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tapfs.bus import files, swap
from tapfs.bus.answers import signed_answer
from tapfs.bus.clock import seconds_of
from tapfs.bus.fields import Faulty, Field, Json, parse_object
from tapfs.bus.layout import OperationLayout
from tapfs.bus.plan import Plan, Step
from tapfs.bus.questions import Question, is_gate
from tapfs.bus.records import SMALL, Record, _of
from tapfs.bus.statefile import OPEN_SETTLE_S, SETTLE_S
from tapfs.errors import RecordInvalid

#: Who answers, where an answer that was saved by hand does not say.
BY_FILE = "file:answer.json"
_REQUEST, _ANSWER = "request.json", "answer.json"


_TEXT = Field((str,), required=True)
_TEXT_OR_NONE = Field((str, type(None)))
_OBJECT_OR_NONE = Field((dict, type(None)))


@dataclass(frozen=True, kw_only=True)
class GateRequest(Record):
    """`request.json`: what a gate asks.

    Attributes:
        step: its label.
        question, fields, default: as in the plan, for people; changing them here changes nothing.
        asked_at, expires_at: when it was asked, and when the time for an answer is up; null for never.
        epoch: the run in which it was asked; in another one it is asked anew, with its whole time.
        how: how to answer.
        rejected: what was wrong with the last answer that did not count.
        closed: null while it waits; `answered`, or why it does not wait any more.
        answer, answered_by: what was answered, and by whom.
    """

    step: str = _of(_TEXT)
    question: str = _of(_TEXT)
    fields: dict[str, Json] = _of(Field((dict,), required=True))
    default: dict[str, Json] | None = _of(_OBJECT_OR_NONE)
    asked_at: str = _of(_TEXT)
    expires_at: str | None = _of(_TEXT_OR_NONE)
    epoch: int = _of(Field((int,), required=True))
    how: str | None = _of(_TEXT_OR_NONE)
    rejected: str | None = _of(_TEXT_OR_NONE)
    closed: str | None = _of(_TEXT_OR_NONE)
    answer: dict[str, Json] | None = _of(_OBJECT_OR_NONE)
    answered_by: str | None = _of(_TEXT_OR_NONE)


@dataclass(frozen=True)
class Found:
    """What stands in `answer.json`.

    Attributes:
        content: its bytes; None for nothing, and for what is no file.
        answer: the answer, checked and filled in; None for none.
        by: who gave it.
        faults: what is wrong with it.
        is_settled: whether it is what its writer means; what does not fit and is young or open is not.
    """

    content: bytes | None = None
    answer: dict[str, Json] | None = None
    by: str = BY_FILE
    faults: tuple[str, ...] = ()
    is_settled: bool = True


class GateFiles:
    """The folder of one gate."""

    def __init__(self, layout: OperationLayout, step: Step) -> None:
        self._layout = layout
        self.folder = layout.gate(step)
        self.request = self.folder / _REQUEST
        self.answer = self.folder / _ANSWER

    def read_request(self) -> GateRequest | None:
        """What is asked there; None for nothing, and for what is no request (somebody wrote into it)."""
        try:
            request = GateRequest.read(self.request)
        except (FileNotFoundError, NotADirectoryError, RecordInvalid):
            return None
        is_time = request.expires_at is None or seconds_of(request.expires_at) is not None
        return request if is_time else None

    def write_request(self, request: GateRequest) -> None:
        """Write what is asked, durably; anything that is no request and has its name is set aside."""
        self._make_room()
        if files.exists(self.request) and self.read_request() is None:
            files.set_aside(self.request, self.request)
        files.replace_own(self.request, request.encode())

    def _make_room(self) -> None:
        """Make the folder; a file that somebody put where it or one above it belongs is set aside."""
        below = self._layout.folder
        for part in self.folder.relative_to(below).parts:
            below = below / part
            if not below.is_dir():
                if files.exists(below):
                    files.set_aside(below, below)
                files.make_dir(below)

    def find_answer(self, question: Question) -> Found:
        """Look at what people have saved.

        Raises:
            OSError: the system cannot read it now, which says nothing of what it holds.
        """
        try:
            status = os.stat(self.answer, follow_symlinks=False)
            content = files.read_bytes(self.answer, SMALL)
        except (FileNotFoundError, NotADirectoryError):
            return Found()
        except files.NotAFile as error:
            return Found(faults=(str(error.strerror),))
        except PermissionError as error:
            return Found(faults=(f"it cannot be read: {error.strerror}",))
        try:
            answer, by = signed_answer(parse_object(content), question.fields, BY_FILE)
        except Faulty as error:
            return Found(content, faults=error.faults, is_settled=_has_settled(self.answer, status))
        return Found(content, answer, by)

    def save_answer(self, content: bytes) -> None:
        """Save an answer, durably; what lies there, given while the operation was held, say, is set aside."""
        if files.exists(self.answer):
            files.set_aside(self.answer, self.answer)
        files.replace(self.answer, content)

    def next_rejected(self) -> str:
        """The name under which the next answer that does not count is kept. Under the operation's lock."""
        number = 1
        while files.exists(f"{self.answer}.rejected-{number}"):
            number += 1
        return f"{_ANSWER}.rejected-{number}"

    def set_aside(self, found: Found) -> None:
        """Set an answer aside that does not count; one that was saved in this instant gets its name back.

        An editor that has the file open for longer than it takes to save writes into what was set aside: it is kept.
        """
        try:
            name = files.set_aside(self.answer, self.answer)
        except FileNotFoundError:
            return
        kept = self.folder / name
        try:
            is_another = files.read_bytes(kept, SMALL) != found.content
        except OSError:
            is_another = False
        if is_another:
            with suppress(FileExistsError):  # a still newer one is there, and this one is kept where it is
                os.link(kept, self.answer)
                files.remove(kept)
        files.sync_dir(self.folder)


def _has_settled(path: Path, status: os.stat_result) -> bool:
    """As `statefile` judges it: an invalid text that is young, or that somebody has open, may become a valid one."""
    age = time.time() - max(status.st_mtime, status.st_ctime)
    if not stat.S_ISREG(status.st_mode) or age < 0 or age >= OPEN_SETTLE_S:
        return True
    return age >= SETTLE_S and swap.has_writer(path) is not True


def asked(layout: OperationLayout, plan: Plan) -> Iterator[tuple[Step, GateRequest]]:
    """The gates that wait for an answer, each with what it asks, in the order of their paths. Needs no lock.

    Goes by what was asked, not by the plan: a plan of ten thousand steps may have one gate.
    """
    for label in sorted(_labels(layout.gates)):
        step = _step_of(plan, label)
        if step is None or files.exists(layout.commit(step)):
            continue
        if any(files.exists(layout.given_up(member)) for _, member in plan.members_around(step)):
            continue
        request = GateFiles(layout, step).read_request()
        if request is not None and request.closed is None:
            yield step, request


def _labels(folder: Path) -> Iterator[str]:
    for base, _, names in os.walk(folder):
        if _REQUEST in names:
            yield os.path.relpath(base, folder)


def _step_of(plan: Plan, label: str) -> Step | None:
    above, slash, last = label.rpartition("/")
    path = above + slash + last.partition("-")[0]
    step = plan.step(path) if plan.has(path) else None
    return step if step is not None and step.label == label and is_gate(step) else None
