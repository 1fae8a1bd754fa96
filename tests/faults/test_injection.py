"""The harness itself: it strikes where it says, it counts honestly, and it can fail."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from faults.actions import Action, CommitLast, CommitStep
from faults.injection import Call, Fault, Outcome, Subject, Tell
from faults.range import Point, Range
from tapfs.bus import files
from tapfs.bus.fields import Json


def run(log_path: Path, act: object, call: Call | None = None, fault: Fault | None = None) -> Outcome:
    subject = Subject(lambda tell: None, act)
    try:
        return subject.run(log_path, call, fault)
    finally:
        subject.end()


@pytest.fixture
def tried() -> Counter[str]:
    """What is struck here proves nothing of tapfs, and is not counted."""
    return Counter()


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "strace"


def test_the_calls_of_an_action_are_seen_in_order_and_no_others(tmp_path: Path, log_path: Path) -> None:
    outcome = run(log_path, lambda: files.replace(tmp_path / "a", b"new"))
    names = [(call.name, call.number) for call in outcome.calls]
    temporary = [("openat", 1), ("write", 1), ("fsync", 1), ("close", 1)]
    assert names == [*temporary, ("rename", 1), ("openat", 2), ("fsync", 2), ("close", 2)]
    assert (outcome.was_reached, outcome.was_killed, outcome.error) == (False, False, None)


def test_every_kind_of_call_that_a_last_commit_makes_is_struck(shooting: Range) -> None:
    struck = {(point.fault, point.call.name) for point in shooting.points(CommitLast)}
    killed = {name for fault, name in struck if fault is Fault.KILL}
    assert killed >= {"openat", "read", "write", "fsync", "fdatasync", "rename", "link", "unlink", "flock", "close"}
    assert {name for fault, name in struck if fault is Fault.NO_ROOM} >= {"openat", "write", "fsync", "rename", "link"}
    assert {name for fault, name in struck if fault is Fault.BROKEN} >= {"openat", "read", "unlink", "link", "fsync"}


def test_a_killed_process_has_not_done_the_call(tmp_path: Path, log_path: Path) -> None:
    (tmp_path / "a").touch()
    outcome = run(log_path, lambda: os.unlink(tmp_path / "a"), Call("unlink", 1, ""), Fault.KILL)
    assert (outcome.was_killed, outcome.was_reached) == (True, True)
    assert (tmp_path / "a").exists()


def test_a_call_that_failed_is_told_as_a_person_reads_it(tmp_path: Path, log_path: Path) -> None:
    path = tmp_path / "a"
    outcome = run(log_path, lambda: files.replace(path, b""), Call("rename", 1, ""), Fault.NO_ROOM)
    assert outcome.was_reached
    assert not path.exists()
    assert outcome.error is not None
    assert "no space left on device" in outcome.error


def test_a_call_that_never_comes_is_not_counted_as_tried(shooting: Range, tried: Counter[str]) -> None:
    shooting.strike(Point(CommitStep, Call("link", 99, ""), Fault.KILL))
    assert (shooting.reached, shooting.missed) == (0, 1)
    assert tried == Counter({"not reached": 1})
    with pytest.raises(AssertionError, match="1 points were not reached"):
        shooting.check()
    shooting.missed = 0


def test_an_error_that_nobody_may_see_is_a_failure(log_path: Path) -> None:
    outcome = run(log_path, lambda: {}["nothing"])
    assert outcome.error is None
    assert "KeyError: 'nothing'" in str(outcome.crash)


class _InPlace(CommitLast):
    """A worker that writes as one should not: over the file itself."""

    title = "commit, unsafely"

    def get_ready(self, tell: Tell) -> None:
        super().get_ready(tell)
        files.replace = _write_in_place  # in the child only


class _Claims(CommitStep):
    """A worker that says it has done what it has not."""

    title = "commit, falsely"

    def act(self) -> Json:
        try:
            return super().act()
        except OSError:
            return "done"


def _write_in_place(path: str | Path, content: bytes) -> None:
    with files.naming(path), open(path, "wb", buffering=0) as stream:
        stream.write(content)
        os.fsync(stream.fileno())


@pytest.mark.parametrize(
    ("kind", "fault", "name", "text"),
    [
        (_InPlace, Fault.KILL, "write", "it is empty"),
        (_InPlace, Fault.NO_ROOM, "write", "it is empty"),
        (_Claims, Fault.NO_ROOM, "link", "No such file"),
    ],
)
def test_a_writer_that_is_not_safe_is_caught(
    kind: type[Action], fault: Fault, name: str, text: str, shooting: Range
) -> None:
    for point in shooting.points(kind):
        if point.fault is fault and point.call.name == name:
            shooting.strike(point)
    assert any(text in failure for failure in shooting.failures), shooting.failures
    with pytest.raises(AssertionError, match=f"{kind.title}: {fault} at {name}"):
        shooting.check()
    shooting.failures.clear()
