"""No edit of `state.json` is lost, at whatever instant it lands; nonsense is set aside and harms nobody."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import wait_for
from tapfs.bus.operation import Operation

EDITS = 2000


class Editor:
    """Writes wants into a `state.json`, each with a reason of its own, in place and by rename."""

    def __init__(self, operation: Operation, chance: random.Random) -> None:
        self._operation = operation
        self._chance = chance
        self._draft = operation.path.parent.parent / "draft.json"
        #: Reasons of edits that came to rest under the name, and of those that the editor itself wrote over.
        self.last = ""
        self.replaced: set[str] = set()

    def write(self, number: int) -> None:
        """Make one edit."""
        want = self._chance.choice(("run", "pause"))
        reason = f"edit {number}"
        text = json.dumps({"want": want, "reason": reason})
        if self._chance.random() < 0.5:
            self._in_place(text)
        else:
            self._by_rename(text)
        self.last = reason

    def _by_rename(self, text: str) -> None:
        """Rename over the file, and note what was there at that instant (it stays reachable by its descriptor)."""
        self._draft.write_text(text)
        try:
            before = os.open(self._operation.layout.state, os.O_RDONLY)
        except FileNotFoundError:
            before = None
        os.rename(self._draft, self._operation.layout.state)
        if before is not None:
            self._note_replaced(before)

    def _in_place(self, text: str) -> None:
        """Open, let some time pass, then truncate and write, as `echo >` and nano do."""
        descriptor = os.open(self._operation.layout.state, os.O_RDWR | os.O_CREAT, 0o660)
        if self._chance.random() < 0.3:
            time.sleep(self._chance.random() * 0.004)
        self._note_replaced(os.dup(descriptor))
        os.ftruncate(descriptor, 0)
        if self._chance.random() < 0.3:
            time.sleep(self._chance.random() * 0.004)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text.encode())
        os.close(descriptor)

    def _note_replaced(self, descriptor: int) -> None:
        try:
            text = os.pread(descriptor, 65536, 0)
            self.replaced.add(json.loads(text).get("reason") or "")
        except ValueError:
            pass
        finally:
            os.close(descriptor)


@pytest.mark.timeout(300)
def test_no_edit_is_lost_among_two_thousand(site, chance: random.Random) -> None:
    """An operation that changes state all the time, and an editor at random instants.

    Each edit must be found in the journal, unless the editor wrote over it himself; and the last is in force at once.
    """
    site.worker()
    operation = site.start("countdown", steps=4000, seconds=0.005)
    site.wait(operation, "running")
    editor = Editor(operation, chance)
    stop = threading.Event()

    def toggle_marker() -> None:
        """Make the state change all the time, also while nobody edits."""
        marker = operation.path / "PAUSE"
        while not stop.is_set():
            marker.touch()
            stop.wait(0.03)
            marker.unlink(missing_ok=True)
            stop.wait(0.05)

    toggling = threading.Thread(target=toggle_marker)
    toggling.start()
    try:
        for number in range(EDITS):
            editor.write(number)
            time.sleep(chance.random() * 0.01)
    finally:
        stop.set()
        toggling.join()
    ended = time.monotonic()
    wait_for(lambda: _accepted(operation) == editor.last, 5.0, lambda: site.show(operation), every_s=0.002)
    print(f"the last edit was in force {1000 * (time.monotonic() - ended):.0f} ms after it")
    asked = {entry.get("reason") for entry in site.journal(operation, "asked")}
    rejected = sorted(operation.path.glob("state.json.rejected-*"))
    lost = {f"edit {number}" for number in range(EDITS)} - asked - editor.replaced
    print(f"{len(asked)} edits taken in, {len(editor.replaced)} written over by the editor, {len(rejected)} set aside")
    assert lost == set()
    assert rejected == []
    assert len(asked) > EDITS / 10
    operation.cancel()
    site.wait(operation, "cancelled")
    wait_for(lambda: not list(operation.path.glob(".state.json.*")), message=lambda: str(os.listdir(operation.path)))


def _accepted(operation: Operation) -> str | None:
    return json.loads(operation.layout.run.read_text())["reason"]


def empty(path: Path) -> None:
    path.write_text("")


def truncated(path: Path) -> None:
    path.write_text(path.read_text()[:40])


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def unknown_word(path: Path) -> None:
    path.write_text('{"want": "stop"}')


def wrong_type(path: Path) -> None:
    path.write_text('{"want": 1, "steps_done": "many"}')


def duplicate_key(path: Path) -> None:
    path.write_text('{\n  "want": "run",\n  "want": "cancel"\n}\n')


def misspelt_field(path: Path) -> None:
    path.write_text('{"wnat": "cancel"}')


def spaces(path: Path) -> None:
    with open(path, "wb") as stream:
        stream.writelines(b" " * 2**20 for _ in range(50))


def symlink(path: Path) -> None:
    path.unlink()
    target = path.parent.parent.parent / "target.json"
    target.write_text('{"want": "cancel"}')
    path.symlink_to(target)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").touch()


NONSENSE = [
    (empty, "empty"),
    (truncated, "line"),
    (binary, "UTF-8"),
    (unknown_word, "field 'want'"),
    (wrong_type, "field 'steps_done'"),
    (duplicate_key, "twice"),
    (misspelt_field, "did you mean 'want'"),
    (spaces, "larger than"),
    (symlink, "symbolic link"),
    (directory, "folder"),
]


@pytest.mark.parametrize(("spoil", "explanation"), NONSENSE)
def test_nonsense_is_set_aside_explained_and_harms_nobody(
    site, spoil: Callable[[Path], None], explanation: str
) -> None:
    """X05: the operation stays as it was, others do not notice."""
    site.worker()
    operation = site.start("countdown", steps=8, seconds=0.15)
    other = site.start("countdown", steps=8, seconds=0.15)
    site.wait(operation, "running")
    spoil(operation.layout.state)
    aside = operation.path / "state.json.rejected-1"
    wait_for(lambda: os.path.lexists(aside), message=lambda: str(os.listdir(operation.path)))
    wait_for(lambda: site.journal(operation, "rejected"))
    assert explanation in site.journal(operation, "rejected")[0]["message"]
    message = wait_for(lambda: operation.view().message, message=lambda: site.show(operation))
    assert "state.json.rejected-1" in message
    assert explanation in message
    site.wait(operation, "succeeded")
    site.wait(other, "succeeded")
    assert operation.result == 0
    target = site.control / "target.json"
    assert not target.exists() or target.read_text() == '{"want": "cancel"}'


def test_an_edit_that_takes_its_time_is_no_nonsense(site) -> None:
    """An editor that truncates first and writes 60 ms later is waited for."""
    site.worker()
    operation = site.start("countdown", steps=100, seconds=0.1)
    site.wait(operation, "running")
    with open(operation.layout.state, "w") as stream:
        time.sleep(0.06)
        stream.write('{"want": "pause", "reason": "slowly"}')
        stream.flush()
        site.wait(operation, "paused")
    assert not list(operation.path.glob("state.json.rejected-*"))
    operation.cancel()
    site.wait(operation, "cancelled")


def test_a_file_that_was_open_before_tapfs_wrote_is_still_read(site) -> None:
    """An editor opens the file, tapfs puts a new one in its place, then the editor writes: the edit counts."""
    site.worker()
    operation = site.start("countdown", steps=100, seconds=0.1)
    site.wait(operation, "running")
    with open(operation.layout.state, "r+") as stream:
        inode = os.fstat(stream.fileno()).st_ino
        (operation.path / "PAUSE").touch()
        site.wait(operation, "paused")
        assert operation.layout.state.stat().st_ino != inode
        stream.truncate(0)
        stream.write('{"want": "pause", "reason": "from an old window"}')
        stream.flush()
        wait_for(lambda: operation.view().reason == "from an old window", message=lambda: site.show(operation))
    (operation.path / "PAUSE").unlink()
    wait_for(lambda: operation.view().message is None)
    assert operation.state == "paused"
    operation.cancel()
    site.wait(operation, "cancelled")


def test_a_deleted_state_file_is_written_anew(site) -> None:
    site.worker()
    operation = site.start("countdown", steps=20, seconds=0.1)
    site.wait(operation, "running")
    operation.pause("hold")
    site.wait(operation, "paused")
    subprocess.run(["rm", "state.json"], cwd=operation.path, check=True)
    wait_for(operation.layout.state.exists, message="state.json was not written anew")
    assert (operation.view().want, operation.view().reason, operation.view().state) == ("pause", "hold", "paused")
    operation.resume()
    site.wait(operation, "succeeded")
