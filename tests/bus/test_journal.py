"""The journal: append-only, one object a line, a torn line left out."""

import json
import os
from pathlib import Path

import pytest

from tapfs.bus.files import NotAFile
from tapfs.bus.journal import Journal
from tapfs.bus.states import State


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def test_a_line_says_when_what_who_and_the_state_after_it(journal: Journal) -> None:
    journal.append(1_800_000_000.12, "state", "file:PAUSE", State.PAUSING, reason="lunch", epoch=1)
    assert json.loads(journal.path.read_text()) == {
        "at": "2027-01-15T08:00:00.120Z",
        "event": "state",
        "by": "file:PAUSE",
        "state": "pausing",
        "reason": "lunch",
        "epoch": 1,
    }


def test_no_history_is_no_entry_and_no_state(journal: Journal) -> None:
    assert list(journal.entries()) == []
    assert journal.last_state() is None


def test_a_torn_last_line_is_left_out_and_closed_by_the_next(journal: Journal) -> None:
    journal.append(0, "created", "test", State.QUEUED)
    with journal.path.open("a") as stream:
        stream.write('{"at": "2027-01-15T08:00:00.120Z", "event": "state", "sta')
    assert [entry["event"] for entry in journal.entries()] == ["created"]
    assert journal.last_state() is State.QUEUED
    journal.append(1, "state", "test", State.RUNNING)
    assert [entry["state"] for entry in journal.entries()] == ["queued", "running"]


def test_what_people_write_into_it_is_left_out(journal: Journal) -> None:
    journal.append(0, "created", "test", State.QUEUED)
    with journal.path.open("ab") as stream:
        stream.write(b'\xff\xfe\n[1]\n"text"\n\n{"state": "asleep"}\n{"state": ["running"]}\n' + b"9" * 9_999 + b"\n")
    assert journal.last_state() is State.QUEUED
    assert all(isinstance(entry, dict) for entry in journal.entries())


def test_a_long_text_is_cut_so_that_the_last_line_is_always_found(journal: Journal) -> None:
    journal.append(0, "state", "test", State.PAUSED, reason="\1" * 100_000, message="ü" * 100_000)
    journal.append(0, "note", "test", None, reason="x" * 5_000)
    assert journal.last_state() is State.PAUSED
    assert [len(entry["reason"]) for entry in journal.entries()] == [1000, 1000]


def test_a_reason_that_is_not_utf_8_is_read_as_it_was_written(journal: Journal) -> None:
    journal.append(0, "asked", "test", State.RUNNING, reason="caf\udce9")
    journal.path.read_bytes().decode("utf-8")
    assert [entry["reason"] for entry in journal.entries()] == ["caf\udce9"]


def test_a_journal_that_is_a_fifo_or_a_link_does_not_hang_and_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    os.mkfifo(journal.path)
    with pytest.raises(NotAFile, match="not a regular file"):
        list(journal.entries())
    journal.path.unlink()
    (tmp_path / "elsewhere").write_text('{"state": "running"}\n')
    journal.path.symlink_to("elsewhere")
    with pytest.raises(NotAFile, match="symbolic link"):
        list(journal.entries())
    assert journal.last_state() is None
