"""The main job: a tally of a large file, exact whatever happens to it in between."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import wait_for


@pytest.mark.timeout(300)
def test_a_tally_is_exact_after_fifty_random_pauses(any_site, people, expected, chance: random.Random) -> None:
    """B22, B23, B25, B32: no row is skipped and none counted twice; the total stays right."""
    path = people(150_000)
    any_site.worker()
    operation = any_site.start("tally", path=path, by="company", of="gender", pace=40_000)
    for _ in range(50):
        wait_for(lambda: operation.view().step == "0002-count" or operation.ready(), 30)
        time.sleep(chance.random() * 0.06)
        (operation.path / "PAUSE").touch()
        wait_for(lambda: operation.state in ("paused", "succeeded"), 30, lambda: any_site.show(operation))
        assert operation.state == "paused", "the file was too short for fifty pauses"
        checkpoint = operation.layout.steps / "0002-count.checkpoint.json"
        if checkpoint.exists():
            saved = json.loads(checkpoint.read_text())
            rows = sum(sum(group.values()) for group in saved["folds"][0]["value"].values())
            assert rows == max(0, (saved["folds"][0]["cursor"] or {"row": 1})["row"] - 1)
            assert saved["total"] == path.stat().st_size
        (operation.path / "PAUSE").unlink()
        any_site.wait(operation, "running")
    any_site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)
    assert operation.view().epoch == 51
    output = json.loads((Path(os.environ.get("TAPFS_DATA", "data")) / f"{operation.id}.json").read_text())
    assert output == operation.result


@pytest.mark.timeout(180)
def test_a_tally_goes_on_from_its_checkpoint_when_the_worker_is_killed(any_site, people, expected) -> None:
    """`kill -9` in the middle: the next worker goes on from the last checkpoint, and the result is exact."""
    path = people(120_000)
    worker = any_site.worker()
    operation = any_site.start("tally", path=path, by="company", of="gender", pace=30_000)
    checkpoint = operation.layout.steps / "0002-count.checkpoint.json"
    wait_for(checkpoint.exists, 30, lambda: any_site.show(operation))
    worker.kill(group=True)
    saved = json.loads(checkpoint.read_text())
    assert saved["folds"][0]["cursor"]["row"] > 1
    any_site.worker(name="second")
    # It goes on from there: the second worker's first checkpoint is not behind the first worker's last.
    wait_for(lambda: json.loads(checkpoint.read_text())["attempt"] == 2, 30, lambda: any_site.show(operation))
    assert json.loads(checkpoint.read_text())["folds"][0]["cursor"]["row"] >= saved["folds"][0]["cursor"]["row"]
    any_site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)
    states = [entry["to"] for entry in any_site.journal(operation, "state")]
    assert "interrupted" in states


@pytest.mark.timeout(180)
def test_a_killed_pool_process_is_replaced_and_its_step_goes_on(site, people, expected) -> None:
    path = people(100_000)
    worker = site.worker()
    operation = site.start("tally", path=path, by="company", of="gender", pace=30_000)
    checkpoint = operation.layout.steps / "0002-count.checkpoint.json"
    wait_for(checkpoint.exists, 30, lambda: site.show(operation))
    holder = json.loads(operation.layout.claim("0002").read_text())["holder"]
    assert holder["pid"] in worker.children()
    os.kill(holder["pid"], 9)
    site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)


def test_a_file_that_changed_while_paused_fails_clearly_and_loses_nothing(site, people, expected) -> None:
    path = people(60_000)
    site.worker()
    operation = site.start("tally", path=path, by="company", of="gender", pace=30_000)
    checkpoint = operation.layout.steps / "0002-count.checkpoint.json"
    wait_for(checkpoint.exists, 30)
    (operation.path / "PAUSE").touch()
    site.wait(operation, "paused")
    saved = checkpoint.read_bytes()
    content, times = path.read_bytes(), path.stat()
    with path.open("ab") as stream:
        stream.write(b"one,more,row,here\n")
    (operation.path / "PAUSE").unlink()
    site.wait(operation, "failed")
    failure = operation.failure()
    assert failure is not None
    assert failure.type == "SourceChanged"
    assert f"{len(content):,}" in failure.message
    assert checkpoint.read_bytes() == saved
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert operation.resume().changed
    site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)


@pytest.mark.parametrize("broken", ["not UTF-8", "gone"])
def test_a_file_that_cannot_be_read_fails_with_its_place(site, people, broken: str, tmp_path: Path) -> None:
    path = people(3_000)
    if broken == "not UTF-8":
        with path.open("ab") as stream:
            stream.write(b"Zo\xeb,X,female,Caf\xe9\n")
    operation = site.start("tally", path=path, by="company", of="gender")
    if broken == "gone":
        path.unlink()
    site.worker()
    site.wait(operation, "failed")
    failure = operation.failure()
    assert failure is not None
    assert str(path) in failure.message
    if broken == "not UTF-8":
        assert "3002" in failure.message.replace(",", "")
        assert "byte" in failure.message


def test_broker_messages_that_are_lost_cost_only_time(any_site: object, people: Callable[[int], Path]) -> None:
    """Law 1: the queue is emptied while an operation waits in it; its step is published again."""
    operation = any_site.start("countdown", steps=2, seconds=0.0)
    any_site.bus.app.control.purge()
    any_site.worker()
    any_site.wait(operation, "succeeded", 40)
