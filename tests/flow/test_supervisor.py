"""The supervisor: what people ask by files, and what broke, is acted upon without a worker's help."""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from filelock import FileLock, Timeout

from support import Process, Processes, wait_for
from support.flows import Post, journal_of, supervised, touch
from tapfs import Bus, Operation, State, tappable
from tapfs.bus.decide import Recovery
from tapfs.errors import ControlUnusable
from tapfs.flow import supervisor as supervisor_module
from tapfs.flow.supervisor import Supervisor, start_thread

#: watchdog says so of a folder that is made while it goes through its parent.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

#: A scan that does not come within a test: what is seen is seen by events.
NEVER_S = 3600.0


@pytest.fixture
def one(app: Celery) -> Any:
    @app.task(name="one")
    def one(*_: Any) -> int:
        return 1

    return one


@pytest.fixture
def operation(one: Any, bus: Bus) -> Operation:
    return tappable(one.s() | one.s(), bus=bus).delay()


@pytest.fixture(params=["events", "scan"])
def watched(request: pytest.FixtureRequest, bus: Bus, operation: Operation) -> Iterator[Supervisor]:
    """A supervisor with events alone, and one with the scan alone (X02)."""
    is_scan = request.param == "scan"
    options = {"scan_interval_s": 0.1, "uses_events": False} if is_scan else {"scan_interval_s": NEVER_S}
    with supervised(bus, **options) as supervisor:
        yield supervisor


def wait_for_state(operation: Operation, *states: State) -> None:
    wait_for(
        lambda: operation.state in states,
        20,
        lambda: f"it is {operation.state}: {operation.view()}, {journal_of(operation)[-3:]}",
    )


# What people ask


@pytest.mark.usefixtures("watched")
def test_a_marker_holds_an_operation_and_its_removal_lets_it_go_on(operation: Operation, post: Post) -> None:
    """X02, X03: nobody works on it; from request to state, and back."""
    touch(operation.path / "PAUSE", "lunch")
    wait_for_state(operation, State.PAUSED)
    wait_for(lambda: operation.view().message == "held by PAUSE: lunch")
    (operation.path / "PAUSE").unlink()
    wait_for(lambda: [one.epoch for one in post.sent] == [1, 2], message=lambda: str(post.sent))
    post.deliver_all()
    wait_for_state(operation, State.SUCCEEDED)


@pytest.mark.usefixtures("watched")
def test_a_cancel_by_marker_is_acted_upon(operation: Operation, bus: Bus) -> None:
    """B40"""
    touch(operation.path / "CANCEL")
    wait_for_state(operation, State.CANCELLED)
    wait_for(lambda: not (bus.control.path / "active" / operation.id).exists())


@pytest.mark.usefixtures("watched")
def test_an_edit_of_state_json_is_acted_upon(operation: Operation) -> None:
    path = operation.path / "state.json"
    path.write_text(path.read_text().replace('"want": "run"', '"want": "pause"'))
    wait_for_state(operation, State.PAUSED)
    beside = operation.path / "edited"
    beside.write_text(path.read_text().replace('"want": "pause"', '"want": "run"'))
    beside.rename(path)
    wait_for_state(operation, State.QUEUED, State.RUNNING)
    assert json.loads(path.read_text())["want"] == "run"


@pytest.mark.usefixtures("watched")
def test_nonsense_in_state_json_is_set_aside_and_explained(operation: Operation) -> None:
    """X05"""
    (operation.path / "state.json").write_text('{"want": "paws"}')
    rejected = operation.path / "state.json.rejected-1"
    wait_for(rejected.exists, message="it was not set aside")
    assert rejected.read_text() == '{"want": "paws"}'
    wait_for(lambda: "paws" in (operation.view().message or ""))
    assert operation.state is State.QUEUED


@pytest.mark.usefixtures("watched")
def test_the_marker_of_the_bus_holds_all_and_its_removal_lets_all_go_on(
    one: Any, bus: Bus, operation: Operation
) -> None:
    operations = [operation, *(tappable(one.s(), bus=bus).delay() for _ in range(3))]
    operations[1].pause("its own")
    touch(bus.control.path / "PAUSE", "maintenance")
    for each in operations:
        wait_for_state(each, State.PAUSED)
    (bus.control.path / "PAUSE").unlink()
    for each in (operations[0], *operations[2:]):
        wait_for_state(each, State.QUEUED, State.RUNNING)
    assert operations[1].state is State.PAUSED  # B15: its own hold stays


@pytest.mark.usefixtures("watched")
def test_operations_that_are_started_while_it_runs_are_supervised(one: Any, bus: Bus) -> None:
    operations = [tappable(one.s(), bus=bus).delay() for _ in range(5)]
    for operation in operations:
        touch(operation.path / "PAUSE")
    for operation in operations:
        wait_for_state(operation, State.PAUSED)


@pytest.mark.usefixtures("watched")
def test_an_operation_whose_files_are_spoilt_does_not_stop_the_others(one: Any, bus: Bus, operation: Operation) -> None:
    """X05"""
    spoilt = [tappable(one.s(), bus=bus).delay() for _ in range(4)]
    (spoilt[0].path / "workflow.json").write_text("{")
    (spoilt[1].path / "workflow.json").unlink()
    (spoilt[2].path / "run.json").unlink()
    (spoilt[2].path / "run.json").mkdir()
    spoilt[3].path.rename(bus.control.path / "away")
    for each in spoilt[:3]:
        touch(each.path / "PAUSE")
    touch(operation.path / "PAUSE")
    wait_for_state(operation, State.PAUSED)
    (operation.path / "PAUSE").unlink()
    wait_for_state(operation, State.QUEUED, State.RUNNING)


# What broke


def test_a_dead_claim_is_published_again_at_once(app: Celery, bus: Bus, post: Post) -> None:
    """Without a scan: the end of the lock is an event."""
    is_broken = True

    @app.task(name="leave")
    def leave() -> str:
        if is_broken:
            raise SystemExit(1)
        return "here"

    operation = tappable(leave.s(), bus=bus).delay()
    with supervised(bus, scan_interval_s=NEVER_S):
        with pytest.raises(SystemExit):
            post.deliver_next()
        wait_for(lambda: post.waiting, message="it was not published again")
        assert (post.waiting[0].attempt, post.waiting[0].number) == (2, 1)
        is_broken = False
        post.deliver_all()
    assert operation.result == "here"
    assert any(
        line.get("to") == "interrupted" and line["by"] == f"supervisor:{os.getpid()}" for line in journal_of(operation)
    )


def test_a_lost_message_is_published_again_after_the_delay(app: Celery, one: Any, tmp_path: Path) -> None:
    """Law 1"""
    bus = Bus(tmp_path / "control", app=app, recovery=Recovery(first_delay_s=0.4, longest_delay_s=0.4))
    post = bus.control.publisher = Post(app)
    operation = tappable(one.s(), bus=bus).delay()
    post.waiting.clear()
    began = time.monotonic()
    with supervised(bus, scan_interval_s=0.05):
        wait_for(lambda: post.waiting, message="it was not published again")
        assert time.monotonic() - began > 0.2
    assert (post.waiting[0].attempt, post.waiting[0].number) == (1, 2)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_pausing_operation_becomes_paused_when_its_worker_is_gone(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="leave")
    def leave() -> None:
        operation.pause("lunch")
        assert operation.state is State.PAUSING
        raise SystemExit(1)

    operation = tappable(leave.s(), bus=bus).delay()
    with supervised(bus, scan_interval_s=NEVER_S):
        with pytest.raises(SystemExit):
            post.deliver_next()
        wait_for_state(operation, State.PAUSED)
    assert post.waiting == []


def test_what_a_supervisor_and_a_worker_of_one_process_write_is_not_mixed_up(one: Any, bus: Bus, post: Post) -> None:
    """Each has objects of its own, so that a commit never names the supervisor as its worker."""
    with supervised(bus, scan_interval_s=0.001):
        operations = [tappable(chain(*(one.s() for _ in range(20))), bus=bus).delay() for _ in range(3)]
        for operation in operations:
            wait_for(lambda: post.deliver_all() is not None and operation.ready(), 30)  # noqa: B023
    for operation in operations:
        for path in (operation.path / "steps").iterdir():
            assert json.loads(path.read_text())["worker"] == "worker:worker@here"


def test_an_entry_of_the_index_without_an_operation_is_forgotten_once_it_is_old(bus: Bus, operation: Operation) -> None:
    young, old = (bus.control.path / "active" / f"2000010{n}-000000-gone-abcdef" for n in (1, 2))
    for entry in (young, old):
        entry.touch()
    os.utime(old, (0, 0))
    with supervised(bus, scan_interval_s=0.05, uses_events=False):
        wait_for(lambda: not old.exists())
        time.sleep(0.2)
    assert young.exists()  # somebody may be about to put the operation there
    assert (bus.control.path / "active" / operation.id).exists()


def test_an_index_that_cannot_be_read_is_logged_and_tried_again(
    bus: Bus, operation: Operation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_PATIENCE_S", 0.05)
    active = bus.control.path / "active"
    with supervised(bus, scan_interval_s=0.05, uses_events=False):
        active.rename(bus.control.path / "kept")
        active.write_text("no folder")
        wait_for(lambda: "cannot scan" in caplog.text)
        active.unlink()
        (bus.control.path / "kept").rename(active)
        touch(operation.path / "PAUSE")
        wait_for_state(operation, State.PAUSED)


def test_an_error_nobody_thought_of_is_logged_and_the_others_are_looked_at(
    one: Any, bus: Bus, operation: Operation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tappable(one.s(), bus=bus).delay()
    real = bus.reconcile

    def reconcile(found: Operation) -> bool:
        if found.id == operation.id:
            raise ZeroDivisionError("a bug")
        return real(found)

    monkeypatch.setattr(bus, "reconcile", reconcile)
    touch(other.path / "PAUSE")
    with supervised(bus, scan_interval_s=0.05, uses_events=False):
        wait_for_state(other, State.PAUSED)
    assert f"cannot reconcile operation {operation.id}" in caplog.text


# Being one of several


SUPERVISE = """
import sys
from celery import Celery
from tapfs import Bus
from tapfs.flow.supervisor import Supervisor
app = Celery("shop", broker="memory://", task_cls="tapfs.flow:TappableTask", set_as_current=False)
bus = Bus(sys.argv[1], app=app)
bus.control.publisher = lambda publication: None
print("ready", flush=True)
Supervisor(bus, scan_interval_s=0.2).run()
"""


def _acting(operation: Operation) -> int:
    """Have something to do for a supervisor, and say which process did it."""
    count = len(journal_of(operation))
    touch(operation.path / "PAUSE")
    wait_for_state(operation, State.PAUSED)
    (operation.path / "PAUSE").unlink()
    wait_for_state(operation, State.QUEUED, State.RUNNING)
    [by] = {line["by"] for line in journal_of(operation)[count:] if line["by"].startswith("supervisor:")}
    return int(by.partition(":")[2])


def test_of_two_supervisors_one_acts_and_the_other_takes_over_when_it_is_killed(
    processes: Processes, bus: Bus, operation: Operation
) -> None:
    """X11"""
    started: dict[int, Process] = {}
    for _ in range(2):
        process = processes.python("-c", SUPERVISE, bus.control.path, name="supervisor")
        process.wait_for_output("ready")
        started[process.pid] = process
    first = _acting(operation)
    assert {_acting(operation) for _ in range(3)} == {first}
    started[first].kill()
    second = _acting(operation)
    assert second in started
    assert second != first


def _freeze_outside_locks(process: Process, operation: Operation) -> None:
    """Stop it where it holds no operation's lock: whoever is frozen inside one keeps everybody from that operation."""
    lock = FileLock(operation.path / "lock", timeout=0.2, preserve_lock_file=True)
    while True:
        process.stop()
        try:
            with lock:
                return
        except Timeout:
            process.cont()


def test_a_frozen_supervisor_is_stood_in_for_until_it_wakes(
    processes: Processes,
    bus: Bus,
    operation: Operation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SIGSTOP keeps its lock; two at once, as it wakes, do no harm, and one steps back."""
    frozen = processes.python("-c", SUPERVISE, bus.control.path, name="supervisor")
    frozen.wait_for_output("ready")
    assert _acting(operation) == frozen.pid
    _freeze_outside_locks(frozen, operation)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(supervisor_module, "SILENT_SUPERVISOR_S", 0.6)
    monkeypatch.setattr(supervisor_module, "STANDBY_INTERVAL_S", 0.1)
    standing_in = Supervisor(bus, scan_interval_s=0.1, uses_events=False)
    thread = threading.Thread(target=standing_in.run)
    thread.start()
    try:
        assert _acting(operation) == os.getpid()
        frozen.cont()
        wait_for(lambda: "another supervises" in caplog.text, 20, "it does not step back")
    finally:
        standing_in.stop()
        thread.join(10)


def test_a_supervisor_that_stands_by_does_nothing_and_ends_when_told(bus: Bus, operation: Operation) -> None:
    with supervised(bus, scan_interval_s=0.05):
        standing_by = Supervisor(bus)
        thread = threading.Thread(target=standing_by.run)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert not standing_by.is_stopping
        standing_by.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert standing_by.is_stopping


@pytest.mark.parametrize("uses_events", [True, False])
def test_it_ends_soon_when_told_to(bus: Bus, operation: Operation, uses_events: bool) -> None:
    began = time.monotonic()
    with supervised(bus, scan_interval_s=NEVER_S, uses_events=uses_events):
        pass
    assert time.monotonic() - began < 10


def test_it_sets_an_empty_directory_up(bus: Bus) -> None:
    supervisor = Supervisor(bus)
    supervisor.stop()
    supervisor.run()
    assert (bus.control.path / "format").read_text() == "tapfs 1\n"


def test_a_directory_of_a_newer_format_is_refused_and_left_alone(bus: Bus) -> None:
    bus.control.path.mkdir()
    (bus.control.path / "format").write_text("tapfs 99\n")
    with pytest.raises(ControlUnusable, match="its format is 'tapfs 99'"):
        Supervisor(bus).run()
    assert [path.name for path in bus.control.path.iterdir()] == ["format"]


def test_the_thread_of_a_worker_starts_again_after_an_error(
    bus: Bus, operation: Operation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_PATIENCE_S", 0.05)
    kept = (bus.control.path / "format").read_text()
    (bus.control.path / "format").write_text("tapfs 99\n")
    with caplog.at_level(logging.ERROR):
        supervisor = start_thread(bus)
        try:
            wait_for(lambda: "the supervisor failed; it starts again" in caplog.text)
            (bus.control.path / "format").write_text(kept)
            touch(operation.path / "PAUSE")
            wait_for_state(operation, State.PAUSED)
        finally:
            supervisor.stop()


def test_an_operation_that_fell_out_of_the_index_is_taken_up_at_the_start(bus: Bus, operation: Operation) -> None:
    """`active/` is only an index: what it lost, or what somebody removed, is found again."""
    entry = bus.control.layout.active / operation.id
    entry.unlink()
    with supervised(bus):
        wait_for(entry.exists, message="it was not taken up")


def test_a_trouble_is_logged_once_and_not_at_every_scan(
    bus: Bus, operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    operation.layout.claims.rename(operation.path / "elsewhere")
    operation.layout.claims.touch()
    with supervised(bus, scan_interval_s=0.02):
        wait_for(lambda: "cannot reconcile" in caplog.text)
        wait_for(lambda: operation.layout.folder.exists())
        looked = time.monotonic()
        wait_for(lambda: time.monotonic() > looked + 0.3)
    assert caplog.text.count("cannot reconcile") == 1


def test_a_paused_operation_is_not_reconciled_at_every_scan_but_every_sign_wakes_it(
    bus: Bus, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands that are held for days must cost next to nothing; with no events, the scan sees all the same."""
    operation.pause("for days")
    looks: list[str] = []
    real = Bus.reconcile

    def reconcile(self: Bus, looked_at: Operation) -> Any:
        looks.append(looked_at.id)
        return real(self, looked_at)

    monkeypatch.setattr(Bus, "reconcile", reconcile)
    with supervised(bus, scan_interval_s=0.01, uses_events=False):
        wait_for(lambda: not list(operation.path.glob(".state.json.*")))
        settled = len(looks)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + 0.3)
        assert len(looks) <= settled + 2
        view = json.loads(operation.layout.state.read_text())
        operation.layout.state.write_text(json.dumps(view | {"reason": "longer still"}))
        wait_for(lambda: json.loads(operation.layout.run.read_text())["reason"] == "longer still")
        touch(operation.path / "CANCEL")
        wait_for(lambda: operation.state is State.CANCELLED)
