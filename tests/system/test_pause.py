"""Pausing, by every way a person has, with a real worker: the operation stops, says why, and goes on exactly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support import wait_for
from tapfs.bus.operation import Operation


def touch(operation: Operation) -> None:
    (operation.path / "PAUSE").touch()


def echo(operation: Operation) -> None:
    subprocess.run(["sh", "-c", "echo lunch > PAUSE"], cwd=operation.path, check=True)


def edited(operation: Operation, want: str) -> str:
    state = json.loads((operation.path / "state.json").read_text())
    return json.dumps(state | {"want": want}, indent=2) + "\n"


def edit_in_place(operation: Operation, want: str) -> None:
    text = edited(operation, want)
    with open(operation.path / "state.json", "w") as stream:
        stream.write(text)


def edit_with_sed(operation: Operation, want: str) -> None:
    command = ["sed", "-i", f's/"want": "[a-z]*"/"want": "{want}"/', str(operation.path / "state.json")]
    subprocess.run(command, check=True)


def edit_like_vim(operation: Operation, want: str) -> None:
    """What vim does with `backupcopy=no`: the old file is renamed away, the new one is created."""
    text = edited(operation, want)
    state = operation.path / "state.json"
    os.rename(state, operation.path / "state.json~")
    descriptor = os.open(state, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(descriptor, text.encode())
    os.close(descriptor)
    os.unlink(operation.path / "state.json~")


def edit_with_cp(operation: Operation, want: str) -> None:
    draft = operation.path.parent.parent / "draft.json"
    draft.write_text(edited(operation, want))
    shutil.copyfile(draft, operation.path / "state.json")


def edit_by_rename(operation: Operation, want: str) -> None:
    draft = operation.path.parent.parent / "draft.json"
    draft.write_text(edited(operation, want))
    os.rename(draft, operation.path / "state.json")


EDITS = [edit_in_place, edit_with_sed, edit_like_vim, edit_with_cp, edit_by_rename]


@pytest.mark.parametrize("pause", [touch, echo])
def test_a_marker_holds_the_operation_while_it_is_there(any_site, pause: Callable[[Operation], None]) -> None:
    """B01, X03: the running step stops at its next tap, nothing follows, and the marker's text is the reason."""
    any_site.worker()
    operation = any_site.start("countdown", steps=3, seconds=0.6)
    any_site.wait(operation, "running")
    pause(operation)
    any_site.wait(operation, "paused")
    assert list(operation.layout.claims.iterdir()) == []
    done = operation.view().steps_done
    if pause is echo:
        assert operation.view().message == "held by PAUSE: lunch"
    (operation.path / "PAUSE").unlink()
    any_site.wait(operation, "succeeded")
    assert operation.result == 0
    assert done < 3
    entries = [(entry["from"], entry["to"]) for entry in any_site.journal(operation, "state")]
    assert ("running", "pausing") in entries
    assert ("pausing", "paused") in entries
    assert ("paused", "running") in entries


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_want_pauses_resumes_and_cancels(site, edit: Callable[[Operation, str], None]) -> None:
    """X01: whatever way the editor writes."""
    site.worker()
    operation = site.start("countdown", steps=200, seconds=0.1)
    site.wait(operation, "running")
    edit(operation, "pause")
    site.wait(operation, "paused")
    edit(operation, "run")
    site.wait(operation, "running")
    edit(operation, "cancel")
    site.wait(operation, "cancelled")
    assert not list(operation.path.glob("state.json.rejected-*"))


def test_a_marker_that_is_moved_or_copied_in_is_seen(site, tmp_path: Path) -> None:
    """X01: `mv`, `cp` and a link are all markers."""
    site.worker()
    operation = site.start("countdown", steps=200, seconds=0.1)
    marker = operation.path / "PAUSE"
    for place in (
        lambda: os.rename(shutil.copy("/dev/null", tmp_path / "draft"), marker),
        lambda: shutil.copyfile(operation.path / "lock", marker),
        lambda: marker.symlink_to("nowhere"),
        lambda: marker.mkdir(),
        lambda: os.mkfifo(marker),
    ):
        site.wait(operation, "running")
        place()
        site.wait(operation, "paused")
        marker.rmdir() if marker.is_dir() and not marker.is_symlink() else marker.unlink()
    site.wait(operation, "running")
    operation.cancel()
    site.wait(operation, "cancelled")


def test_the_commands_pause_resume_and_cancel(any_site) -> None:
    any_site.worker()
    operation = any_site.start("countdown", steps=200, seconds=0.1)
    any_site.wait(operation, "running")
    answer = json.loads(any_site.tapfs("pause", operation.id, "--reason", "lunch", "--wait", "--json").output)
    assert (answer["success"], answer["changed"], answer["state"]) == (True, True, "paused")
    assert operation.view().reason == "lunch"
    any_site.tapfs("resume", operation.id)
    any_site.wait(operation, "running")
    any_site.tapfs("cancel", operation.id, "--wait")
    assert operation.state == "cancelled"


def test_the_bus_marker_holds_everything_and_lets_it_go(any_site) -> None:
    """`touch control/PAUSE` is a maintenance window: what was paused on its own stays paused afterwards."""
    any_site.worker()
    running = [any_site.start("countdown", steps=100, seconds=0.1) for _ in range(2)]
    own = any_site.start("countdown", steps=100, seconds=0.1)
    for operation in [*running, own]:
        any_site.wait(operation, "running") if operation is not own else None
    own.pause("on its own")
    any_site.wait(own, "paused")
    (any_site.control / "PAUSE").write_text("upgrade\n")
    for operation in running:
        any_site.wait(operation, "paused")
        assert operation.view().message == "held by control/PAUSE: upgrade"
    late = any_site.start("countdown", steps=1, seconds=0.0)
    any_site.wait(late, "paused")
    (any_site.control / "PAUSE").unlink()
    for operation in running:
        any_site.wait(operation, "running")
    any_site.wait(late, "succeeded")
    assert own.state == "paused"
    for operation in [*running, own]:
        operation.cancel()
        any_site.wait(operation, "cancelled")


def test_pausing_taken_back_goes_on_in_the_same_epoch(site) -> None:
    """X03: a step that never taps is waited for; `rm PAUSE` before it ends takes the request back."""
    site.worker()
    operation = site.start("countdown", steps=3, seconds=0.0)
    site.wait(operation, "succeeded")
    slow = site.start("tally", path=_one_chunk(site), by="a", of="b", pace=1)
    wait_for(lambda: slow.view().step == "0002-count" and slow.state == "running")
    (slow.path / "PAUSE").touch()
    site.wait(slow, "pausing")
    (slow.path / "PAUSE").unlink()
    site.wait(slow, "running")
    assert slow.view().epoch == 1
    site.wait(slow, "succeeded")


def _one_chunk(site) -> str:
    """A file whose only chunk takes two seconds at a pace of one row a second."""
    path = site.control.parent / "few.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    return str(path)


def cancel_by_marker(operation: Operation) -> None:
    draft = operation.path / ".draft"
    draft.write_text("not needed any more")
    draft.rename(operation.path / "CANCEL")  # whole at once: an empty one would be acted on as soon


def cancel_by_edit(operation: Operation) -> None:
    edit_in_place(operation, "cancel")


def cancel_by_verb(operation: Operation) -> None:
    operation.cancel("not needed any more")


@pytest.mark.parametrize("cancel", [cancel_by_marker, cancel_by_edit, cancel_by_verb])
@pytest.mark.parametrize("state", ["queued", "running", "pausing", "paused"])
def test_cancel_ends_every_state_that_is_not_final(site, state: str, cancel: Callable[[Operation], None]) -> None:
    """B39, B40, B41, B42, B45; with PAUSE there as well, cancel wins (X03)."""
    if state == "queued":
        operation = site.start("countdown", steps=5, seconds=0.1)
    else:
        site.worker()
        operation = site.start("tally", path=_one_chunk(site), by="a", of="b", pace=1)
        wait_for(lambda: operation.view().step == "0002-count" and operation.state == "running")
    if state in ("pausing", "paused"):
        (operation.path / "PAUSE").touch()
        site.wait(operation, state)
    cancel(operation)
    if state == "queued":
        site.worker()
    site.wait(operation, "cancelled")
    assert operation.view().steps_done < operation.view().steps_total
    assert json.loads((operation.path / "run.json").read_text())["finished_at"]
    assert list(operation.layout.claims.iterdir()) == []
    if cancel is not cancel_by_edit:
        assert site.journal(operation, "state")[-1]["reason"] == "not needed any more"


def test_a_pause_before_the_first_step_lets_no_step_run(site) -> None:
    """B02."""
    operation = site.start("countdown", steps=3, seconds=0.0)
    (operation.path / "PAUSE").touch()
    site.worker()
    site.wait(operation, "paused")
    assert list(operation.layout.steps.iterdir()) == []
    (operation.path / "PAUSE").unlink()
    site.wait(operation, "succeeded")


def test_a_misspelt_marker_gives_a_hint_and_holds_nothing(site) -> None:
    site.worker()
    operation = site.start("countdown", steps=8, seconds=0.1)
    site.wait(operation, "running")
    (operation.path / "pause").touch()
    hints = wait_for(lambda: site.journal(operation, "hint"), message=lambda: site.show(operation))
    assert "did you mean" in hints[0]["message"].lower() or "PAUSE" in hints[0]["message"]
    assert "PAUSE" in site.tapfs("show", operation.id).output
    site.wait(operation, "succeeded")
    assert len(site.journal(operation, "hint")) == 1


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_pause_and_resume_work_in_every_pool(site, pool: str) -> None:
    site.worker("--pool", pool, "--concurrency", "1" if pool == "solo" else "2")
    operation = site.start("countdown", steps=4, seconds=0.3)
    site.wait(operation, "running")
    (operation.path / "PAUSE").touch()
    site.wait(operation, "paused")
    (operation.path / "PAUSE").unlink()
    site.wait(operation, "succeeded")


def test_a_restart_keeps_paused_things_paused_and_running_things_running(any_site) -> None:
    """B72."""
    worker = any_site.worker()
    paused = any_site.start("countdown", steps=4, seconds=0.2)
    running = any_site.start("countdown", steps=12, seconds=0.2)
    any_site.wait(paused, "running")
    (paused.path / "PAUSE").touch()
    any_site.wait(paused, "paused")
    any_site.wait(running, "running")
    worker.kill(group=True)
    any_site.worker(name="second")
    any_site.wait(running, "succeeded")
    assert paused.state == "paused"
    (paused.path / "PAUSE").unlink()
    any_site.wait(paused, "succeeded")
