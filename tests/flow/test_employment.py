"""The worker that a process belongs to: its steps stop at their taps, and go on elsewhere, when it is to leave."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from support.flows import Numbers, Post, claim_of, finish, journal_of
from tapfs import Bus, Operation, State, tap, tappable
from tapfs.bus.records import Checkpoint, Commit
from tapfs.bus.runs import read_run
from tapfs.bus.workers import WorkerFolder
from tapfs.flow import employment

pytestmark = pytest.mark.usefixtures("looks_at_every_tap")


@pytest.fixture
def folder(bus: Bus) -> Iterator[WorkerFolder]:
    """This process is a worker's."""
    bus.control.prepare()
    folder = WorkerFolder.enter(bus.control.layout, "first@here", bus.control.now())
    employment.begin(folder)
    yield folder
    employment.begin(None)
    folder.leave()


@pytest.fixture
def order() -> list[str]:
    """What happened, in its order."""
    return []


@pytest.fixture
def total(app: Celery, order: list[str]) -> Any:
    """Add the numbers up to 9; at 4, as often as `stops` says, do what it says."""

    @app.task(name="total")
    def total(stops: int = 0) -> int:
        def on_chunk(last: int) -> None:
            if last == 4 and order.count("asked") < stops:
                order.append("asked")
                ON_ASK[0]()

        try:
            for value, numbers in tap.fold(Numbers(10, on_chunk=on_chunk), {"sum": 0}):
                value["sum"] += sum(numbers)
            return int(value["sum"])
        finally:
            order.append("cleaned up")

    return total


ON_ASK: list[Any] = [lambda: None]


def saved(operation: Operation) -> Any:
    return Checkpoint.read(operation.path / "steps" / "0001-total.checkpoint.json").folds[0]


def test_a_process_outside_a_worker_has_no_name_and_no_reason_to_leave() -> None:
    assert (employment.worker_name(), employment.why_leave()) == (None, None)


def test_a_workers_process_knows_its_name_and_what_is_asked(folder: WorkerFolder) -> None:
    assert (employment.worker_name(), employment.why_leave()) == ("first@here", None)
    folder.stop("the worker got SIGTERM")
    assert employment.why_leave() == "workers/first@here/STOPPING: the worker got SIGTERM"
    employment.begin(None)
    assert (employment.worker_name(), employment.why_leave()) == (None, None)


def test_a_child_of_the_worker_knows_it_too(folder: WorkerFolder) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if employment.worker_name() == "first@here" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("marker", ["DRAIN", "STOPPING"])
def test_a_message_that_reaches_a_worker_about_to_leave_is_passed_on_and_not_run(
    total: Any, bus: Bus, post: Post, folder: WorkerFolder, order: list[str], marker: str
) -> None:
    """B59: one message is put back, no retry is used up."""
    operation = tappable(total.s(), bus=bus).delay()
    (folder.path / marker).touch()
    post.deliver_next()
    assert order == []
    assert [(one.attempt, one.number, one.retries) for one in post.waiting] == [(2, 1, 0)]
    assert operation.state is State.QUEUED
    (folder.path / marker).unlink()
    post.deliver_all()
    assert operation.result == 45


@pytest.mark.parametrize("marker", ["PAUSE", "CANCEL"])
def test_a_message_that_reaches_a_worker_about_to_leave_when_a_stop_is_asked_is_dropped(
    total: Any, bus: Bus, post: Post, folder: WorkerFolder, marker: str
) -> None:
    """B16."""
    operation = tappable(total.s(), bus=bus).delay()
    (operation.path / marker).touch()
    folder.stop("the worker got SIGTERM")
    post.deliver_next()
    assert post.waiting == []
    assert operation.state in (State.PAUSED, State.CANCELLED)


def test_a_drained_workers_step_saves_its_place_and_another_goes_on_from_there(
    total: Any, note: Any, bus: Bus, post: Post, folder: WorkerFolder, order: list[str]
) -> None:
    """B60: interrupted, which is no failure and no retry."""
    ON_ASK[0] = (folder.path / "DRAIN").touch
    operation = tappable(total.s(1) | note.s(), bus=bus).delay()
    post.deliver_next()
    assert operation.state is State.INTERRUPTED
    assert (saved(operation)["cursor"], saved(operation)["value"]) == (5, {"sum": 10})
    [message] = post.waiting
    assert (message.attempt, message.number, message.retries) == (2, 1, 0)
    (entry,) = [line for line in journal_of(operation) if line["event"] == "interrupted"]
    assert entry["reason"] == "workers/first@here/DRAIN"
    assert entry["by"] == "worker:first@here"
    employment.begin(None)
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert Commit.read(operation.path / "steps" / "0001-total.json").result == 45
    assert read_run(operation).interruptions == 1
    assert [line["to"] for line in journal_of(operation) if "to" in line] == [
        "queued",
        "running",
        "interrupted",
        "running",
        "succeeded",
    ]


def test_a_tasks_own_finally_blocks_end_before_its_step_is_published_again(
    app: Celery, bus: Bus, total: Any, folder: WorkerFolder, order: list[str]
) -> None:
    """B61."""

    class Noting(Post):
        def __call__(self, publication: Any) -> None:
            order.append(f"published {publication.attempt}")
            super().__call__(publication)

    post = bus.control.publisher = Noting(app)
    ON_ASK[0] = lambda: folder.stop("the worker got SIGTERM")
    operation = tappable(total.s(1), bus=bus).delay()
    post.deliver_next()
    assert order == ["published 1", "asked", "cleaned up", "published 2"]
    employment.begin(None)
    post.deliver_all()
    assert order == ["published 1", "asked", "cleaned up", "published 2", "cleaned up"]
    assert operation.result == 45


@pytest.mark.parametrize("way", ["operation", "bus", "both"])
def test_a_step_that_ran_for_its_maximum_goes_on_elsewhere_with_the_reason_in_the_journal(
    total: Any, bus: Bus, post: Post, way: str
) -> None:
    """B62: the smaller limit wins."""
    limit = {"operation": 1e-9, "bus": None, "both": 1e-9}[way]
    bus.max_running_s = {"operation": None, "bus": 1e-9, "both": 3600.0}[way]
    operation = tappable(total.s(), bus=bus, max_running_s=limit).delay()
    for _ in range(3):
        post.deliver_next()
        assert operation.state is State.INTERRUPTED
    reasons = [line["reason"] for line in journal_of(operation) if line["event"] == "interrupted"]
    assert reasons == ["it ran for its maximum of 1e-09 s"] * 3


def test_a_maximum_that_is_too_short_for_anything_still_lets_a_step_get_further(
    total: Any, bus: Bus, post: Post
) -> None:
    """B62: it is given away behind a chunk, never before the first one, so it comes to its end."""
    bus.max_running_s = 1e-9
    operation = tappable(total.s(), bus=bus).delay()
    assert post.deliver_all() > bus.control.recovery.max_interruptions
    assert operation.result == 45


def test_a_step_without_anything_to_save_is_not_made_to_begin_anew_by_a_maximum(
    app: Celery, bus: Bus, post: Post
) -> None:
    @app.task(name="taps")
    def taps() -> str:
        tap.check()
        return "done"

    bus.max_running_s = 1e-9
    operation = tappable(taps.s(), bus=bus).delay()
    post.deliver_next()
    assert operation.result == "done"


def test_a_step_that_gets_further_each_time_comes_to_its_end_however_often_it_is_interrupted(
    app: Celery, bus: Bus, post: Post, folder: WorkerFolder
) -> None:
    """B67."""
    source = Numbers(40, on_chunk=lambda _: folder.stop("the worker got SIGTERM"))

    @app.task(name="slow")
    def slow() -> int:
        for value, numbers in tap.fold(source, {"sum": 0}):
            value["sum"] += sum(numbers)
        return int(value["sum"])

    operation = tappable(slow.s(), bus=bus).delay()
    while not operation.ready():
        (folder.path / "STOPPING").unlink(missing_ok=True)
        post.deliver_next()
    assert operation.state is State.SUCCEEDED, operation.view()
    assert operation.result == sum(range(40))
    assert read_run(operation).interruptions == 40


def test_a_pause_that_is_asked_at_the_same_tap_is_stronger_than_leaving(
    total: Any, bus: Bus, post: Post, folder: WorkerFolder
) -> None:
    """B16."""
    operation = tappable(total.s(1), bus=bus).delay()

    def ask() -> None:
        folder.stop("the worker got SIGTERM")
        (operation.path / "PAUSE").touch()

    ON_ASK[0] = ask
    post.deliver_next()
    assert (operation.state, post.waiting) == (State.PAUSED, [])
    assert saved(operation)["cursor"] == 5
    employment.begin(None)
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == 45


def test_a_step_without_taps_ends_although_its_worker_leaves(
    app: Celery, note: Any, bus: Bus, post: Post, folder: WorkerFolder
) -> None:
    """B71: what ends in time has ended; what follows is for others."""

    @app.task(name="short")
    def short() -> str:
        folder.stop("the worker got SIGTERM")
        return "done"

    operation = tappable(short.s() | note.s(), bus=bus).delay()
    post.deliver_next()
    assert operation.result_of(operation.plan().steps[0]) == "done"
    assert claim_of(operation, "0002").attempt == 1
    assert [one.step.path for one in post.waiting] == ["0002"]
