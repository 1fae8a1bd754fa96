"""What dies, freezes or is emptied costs time and nothing else: children killed or stopped, a broker that forgets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import RedisServer, wait_for
from support.machine import skip_unless
from tapfs.bus.operation import Operation
from tapfs.bus.states import State

TALLY = {"by": "company", "of": "gender"}


def claim_of(operation: Operation, path: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(operation.layout.claim(path).read_text())
    except FileNotFoundError:
        return {}
    return found


def running_attempt(operation: Operation, path: str = "0002") -> int:
    """Which attempt at a step a process is at; 0 for none."""
    claim = claim_of(operation, path)
    return int(claim["attempt"]) if claim.get("holder") else 0


def saved_by(operation: Operation) -> int:
    """Which attempt wrote the checkpoint."""
    return int(json.loads((operation.layout.steps / "0002-count.checkpoint.json").read_text())["attempt"])


def holder_pid(operation: Operation, path: str = "0002") -> int:
    return int(claim_of(operation, path)["holder"]["pid"])


def start_tally(site: Any, path: Path, pace: int) -> Operation:
    operation: Operation = site.start("tally", path=path, pace=pace, **TALLY)
    wait_for(lambda: (operation.layout.steps / "0002-count.checkpoint.json").exists(), 30)
    return operation


def test_the_step_of_a_killed_child_is_running_again_at_once_where_a_worker_is_idle(any_site, people, expected) -> None:
    """B63: long before anything is published again by the clock; and from the last checkpoint, not from the start."""
    for name in ("one", "two"):
        any_site.worker("--concurrency", "2", name=name)
    path = people(30_000)
    operation = start_tally(any_site, path, pace=8_000)
    for attempt in (1, 2):
        # Nine seconds: less than the ten after which a lost message is made good, however slow this machine is.
        wait_for(lambda attempt=attempt: running_attempt(operation) == attempt, 9)
        wait_for(lambda attempt=attempt: saved_by(operation) == attempt, 30)
        os.kill(holder_pid(operation), signal.SIGKILL)
    any_site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)
    assert json.loads(operation.layout.run.read_text())["interruptions"] >= 2


def test_a_frozen_worker_loses_its_step_and_cannot_commit_it_when_it_wakes(site, people, expected) -> None:
    """B65: SIGSTOP keeps the lock; the step is given to another by the silence, and SIGCONT changes nothing."""
    site.variables["TAPFS_SILENT_AFTER_S"] = "6"
    site.worker("--concurrency", "1", name="frozen")
    path = people(20_000)
    operation = start_tally(site, path, pace=4_000)
    frozen = holder_pid(operation)
    site.worker("--concurrency", "1", name="other")
    os.kill(frozen, signal.SIGSTOP)
    try:
        site.wait(operation, "succeeded", 90)
        commit = (operation.layout.steps / "0002-count.json").read_bytes()
        assert json.loads(commit)["attempt"] == 2
        assert operation.result == expected(path)
        assert "no sign of life" in site.journal(operation, "lost")[0]["reason"]
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_for(lambda: "stopped at a tap" in site.workers["frozen"].output, 30, "the frozen worker does not wake")
    assert (operation.layout.steps / "0002-count.json").read_bytes() == commit
    assert operation.state == "succeeded"
    assert sorted(path.name for path in operation.layout.steps.iterdir()) == [
        "0001-check.json",
        "0002-count.json",
        "0003-save.json",
    ]


@pytest.fixture
def forgetful(request: pytest.FixtureRequest, any_site: Any) -> Any:
    """Empties the broker of a site."""

    def forget() -> None:
        if any_site.broker is None:
            shutil.rmtree(any_site.control / "broker", ignore_errors=True)
            return
        server: RedisServer = request.getfixturevalue("redis_server")
        with server.client(int(any_site.broker.rpartition("/")[2])) as client:
            client.flushdb()

    return forget


def test_a_broker_that_is_emptied_loses_nothing(any_site, people, expected, forgetful) -> None:
    """X06: of those that run, that wait their turn, and that are paused, each goes on as it should."""
    any_site.worker("--concurrency", "1")
    path = people(20_000)
    running = start_tally(any_site, path, pace=8_000)
    waiting = [any_site.start("countdown", steps=3, seconds=0) for _ in range(2)]
    paused = any_site.start("countdown", steps=3, seconds=0)
    paused.pause("for the night")
    any_site.wait(paused, "paused")
    forgetful()
    for operation in waiting:
        any_site.wait(operation, "succeeded", 35)
    any_site.wait(running, "succeeded", 35)
    assert running.result == expected(path)
    assert paused.state is State.PAUSED
    paused.resume()
    any_site.wait(paused, "succeeded")


@pytest.fixture
def own_site(tmp_path: Path, processes: Any, own_redis: RedisServer, make_site: Any) -> Any:
    """A site on a Redis of its own, which the test may stop."""
    return make_site(tmp_path, processes, own_redis.url())


def test_everything_is_published_again_when_the_broker_comes_back(own_site, own_redis) -> None:
    """Redis, without persistence, dies and starts anew: what waited there is gone, what could not be sent is sent."""
    own_site.worker("--concurrency", "1")
    busy = own_site.start("countdown", steps=1, seconds=2)
    waiting = [own_site.start("countdown", steps=2, seconds=0) for _ in range(3)]
    own_redis.stop()
    unsent = own_site.start("countdown", steps=2, seconds=0)
    assert unsent.state == "queued"
    wait_for(lambda: "waits: " in (unsent.view().message or ""), 20, lambda: own_site.show(unsent))
    own_redis.start()
    for operation in (busy, *waiting, unsent):
        own_site.wait(operation, "succeeded", 60)


@pytest.mark.root
def test_on_a_read_only_file_system_looking_works_and_every_verb_says_why_not(site, processes) -> None:
    """X14, for the command line: nothing is changed, and nobody is told otherwise."""
    site.worker()
    operation = site.start("countdown", steps=2, seconds=0)
    other = site.start("countdown", steps=1, seconds=3600)
    site.wait(operation, "succeeded")
    wait_for(lambda: running_attempt(other, "0001") == 1, 20)
    for worker in site.workers.values():
        worker.kill(group=True)
    before = sorted(str(path) for path in site.control.rglob("*"))
    script = (
        f"mount --bind '{site.control}' '{site.control}' && mount -o remount,ro,bind '{site.control}' '{site.control}' "
        f'&& exec "$@"'
    )
    able = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    skip_unless(able, "make a mount namespace")

    def tapfs(*words: str) -> tuple[int, str]:
        command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "tapfs", *words]
        process = processes(*command, name="tapfs", env=site.environment)
        return process.wait(60), process.output

    for look in (["list"], ["show", operation.id], ["show", other.id], ["result", operation.id], ["journal", other.id]):
        status, output = tapfs(*look)
        assert status == 0, (look, output)
    for verb in (["pause", other.id], ["cancel", other.id], ["start", "countdown"], ["resume", other.id]):
        status, output = tapfs(*verb)
        assert status == 1, (verb, output)
        assert "read-only" in output.lower()
        assert "Traceback" not in output
    assert sorted(str(path) for path in site.control.rglob("*")) == before
