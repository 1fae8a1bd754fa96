"""Celery workers: the supervisor in each one's parent, and a whole worker on a real broker."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from support import wait_for
from support.flows import Numbers, journal_of, touch
from tapfs import Bus, Operation, State, tap, tappable
from tapfs.bus.records import Commit
from tapfs.flow import worker
from tapfs.flow.publisher import CeleryPublisher

#: watchdog says so of a folder that is made while it goes through its parent.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")


class Thread:
    """Stands in for a supervisor and its thread."""

    started: list[Bus]

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.is_stopping = False

    def stop(self) -> None:
        self.is_stopping = True


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[Thread]:
    started: list[Thread] = []

    def start(bus: Bus) -> Thread:
        started.append(Thread(bus))
        return started[-1]

    monkeypatch.setattr(worker, "start_thread", start)
    return started


def test_a_worker_that_is_ready_supervises_once(app: Celery, bus: Bus, threads: list[Thread]) -> None:
    for _ in range(2):
        worker.supervise_worker(sender=SimpleNamespace(app=app))
    assert [one.bus for one in threads] == [bus]


def test_a_worker_whose_tasks_cannot_be_steps_does_not_supervise(threads: list[Thread]) -> None:
    worker.supervise_worker(sender=SimpleNamespace(app=Celery("plain", set_as_current=False)))
    assert threads == []


def test_the_supervisors_of_a_worker_that_shuts_down_stop(app: Celery, bus: Bus, threads: list[Thread]) -> None:
    worker.supervise_worker(sender=SimpleNamespace(app=app))
    worker.stop_working()
    assert [one.is_stopping for one in threads] == [True]


def test_a_worker_that_cannot_supervise_works_all_the_same(
    app: Celery, bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Bus) -> None:
        raise worker.TapfsError("no such directory")

    monkeypatch.setattr(worker, "start_thread", refuse)
    worker.supervise_worker(sender=SimpleNamespace(app=app))
    assert "this worker has no supervisor" in caplog.text


# A whole worker, in a thread, on Redis


@pytest.fixture
def working(app: Celery, bus: Bus, redis_url: str) -> Iterator[Bus]:
    app.conf.update(broker_url=redis_url, worker_prefetch_multiplier=1, task_ignore_result=True)
    bus.control.publisher = CeleryPublisher(app)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fold")
    def fold(given: int) -> int:
        for value, numbers in tap.fold(Numbers(600, on_chunk=lambda _: time.sleep(0.005)), {"sum": given}):
            value["sum"] += sum(numbers)
        return int(value["sum"])

    @app.task(name="again", bind=True, autoretry_for=(OSError,), default_retry_delay=0, retry_backoff=False)
    def again(self: Any, given: int) -> int:
        if not self.request.retries:
            raise OSError("away")
        return given + 1

    @app.task(name="plain")
    def plain(done: str) -> None:
        DONE.append(done)

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR", shutdown_timeout=30):
        worker.supervise_worker(sender=SimpleNamespace(app=app))  # a test's worker does not send the signal
        yield bus
    worker.stop_working()
    wait_for(lambda: not any(thread.name == "tapfs-supervisor" for thread in threading.enumerate()), 20)


DONE: list[str] = []


def test_a_workflow_runs_on_a_worker_with_pauses_retries_and_plain_tasks_beside_it(app: Celery, working: Bus) -> None:
    """Real messages, brief as they are, and files that ask."""
    tasks = app.tasks
    workflow = tasks["add"].s(1, 2) | tasks["again"].s() | tasks["fold"].s() | tasks["add"].s(1)
    operation: Operation = tappable(workflow, bus=working).delay()
    tasks["plain"].delay("beside it")
    wait_for(lambda: operation.view().step == "0003-fold", message=lambda: str(journal_of(operation)))
    touch(operation.path / "PAUSE", "lunch")
    wait_for(lambda: operation.state is State.PAUSED, message=lambda: str(operation.view()))
    wait_for(lambda: DONE == ["beside it"])
    assert not operation.ready()
    (operation.path / "PAUSE").unlink()
    assert operation.get(timeout=30) == 1 + 2 + 1 + sum(range(600)) + 1
    assert Commit.read(operation.path / "steps" / "0002-again.json").attempt == 2
    workers = {Commit.read(path).worker for path in (operation.path / "steps").iterdir()}
    assert len(workers) == 1
    assert workers.pop().startswith("worker:")
