"""Every way in which Celery ends a task has one outcome on disk. One worker on Redis for all; its children die."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support import Process, Processes, RedisServer, wait_for
from tapfs.bus.operation import Operation
from tapfs.bus.records import Failure
from tapfs.flow.bus import Bus
from tapfs.flow.tappable import tappable

LONG_S = 40.0
QUICK = {"TAPFS_FIRST_DELAY_S": "1", "TAPFS_LONGEST_DELAY_S": "2"}


class Odd:
    """The worker, and a bus that starts its tasks by name."""

    def __init__(self, folder: Path, url: str, processes: Processes) -> None:
        self.folder = folder
        self.app = Celery("odd", broker=url, task_cls="tapfs.flow:TappableTask", set_as_current=False)
        self.app.conf.task_default_queue = "odd"
        self.bus = Bus(folder / "control", app=self.app)
        self.environment = {"TAPFS_CONTROL": str(folder / "control"), "ODD_BROKER": url, **QUICK}
        self.worker: Process = processes.python(
            "-m",
            "celery",
            "-A",
            "support.odd_app",
            "worker",
            "--concurrency=2",
            "--hostname=odd@here",
            "--loglevel=INFO",
            name="odd",
            env=self.environment | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        self.worker.wait_for_output("ready.")
        self._count = 0

    def ledger(self) -> Path:
        self._count += 1
        return self.folder / f"ledger-{self._count}"

    def start(self, task: str, *args: Any, **options: Any) -> Operation:
        """Start the task as the middle one of three steps."""
        name = f"support.odd_app.{task}"
        step = self.app.signature(name, args=args, immutable=True, options=options)
        first = self.app.signature("support.odd_app.add", args=(1, 1))
        return tappable(
            first | step | self.app.signature("support.odd_app.add", args=(1, 1), immutable=True), bus=self.bus
        ).delay()

    def ends(self, operation: Operation, state: str) -> None:
        wait_for(lambda: operation.ready(), LONG_S, lambda: f"it is {operation.state}: {events(operation)}")
        assert operation.state == state, operation.failure()

    def failure(self, operation: Operation) -> Failure:
        self.ends(operation, "failed")
        failure = operation.failure()
        assert failure is not None
        assert (failure.step or "").startswith("0002-"), failure
        return failure


def events(operation: Operation, event: str | None = None) -> list[dict[str, Any]]:
    return [entry for entry in operation.journal.entries() if event in (None, entry["event"])]


def lines(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines() if ledger.exists() else []


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    folder = tmp_path_factory.mktemp("odd")
    server = RedisServer(folder / "redis").start()
    processes = Processes(folder)
    yield Odd(folder, server.url(), processes)
    processes.close()
    server.stop()


@pytest.fixture(autouse=True)
def report(odd: Odd, request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the worker wrote during a test that fails."""
    begin = len(odd.worker.output)
    yield
    print(odd.worker.output[begin:][-6000:])


def test_a_hard_time_limit_fails_the_step_and_nobody_runs_it_again(odd: Odd) -> None:
    """B08: it is Celery's own meaning; the process that runs no more code left nothing half done."""
    ledger = odd.ledger()
    failure = odd.failure(odd.start("hang", str(ledger)))
    assert failure.type == "TimeLimitExceeded"
    assert "2 s" in failure.message
    assert (failure.attempt, failure.worker) == (1, "odd@here")
    assert lines(ledger) == ["began"]


def test_a_hard_time_limit_that_strikes_while_the_operation_is_pausing_is_recorded(odd: Odd) -> None:
    """B08: nothing is tried again until somebody resumes it."""
    ledger = odd.ledger()
    operation = odd.start("hang", str(ledger))
    wait_for(lambda: lines(ledger) == ["began"], LONG_S)
    assert operation.pause().state == "pausing"
    assert odd.failure(operation).type == "TimeLimitExceeded"
    assert lines(ledger) == ["began"]


def test_a_soft_time_limit_is_an_exception_that_a_task_may_meet(odd: Odd) -> None:
    met, unmet = odd.ledger(), odd.ledger()
    well, badly = odd.start("overrun", str(met), True), odd.start("overrun", str(unmet), False)
    odd.ends(well, "succeeded")
    failure = odd.failure(badly)
    assert failure.type == "SoftTimeLimitExceeded"
    assert "overrun" in (failure.traceback or "")


def test_a_child_that_is_killed_costs_an_attempt_and_no_retry(odd: Odd) -> None:
    ledger = odd.ledger()
    operation = odd.start("die", str(ledger), 2)
    odd.ends(operation, "succeeded")
    assert len(lines(ledger)) == 3
    commit = json.loads((operation.layout.steps / "0002-die.json").read_text())
    assert (commit["result"], commit["attempt"]) == (3, 3)
    wait_for(lambda: len(events(operation, "lost")) == 2, 10, lambda: str(events(operation)))
    assert {entry["reason"] for entry in events(operation, "lost")} == {"signal 9 (SIGKILL)"}


def test_a_step_that_takes_its_worker_down_time_after_time_fails_with_worker_signal_and_attempt(odd: Odd) -> None:
    """B66, B67: it is parked, with what is known of its end, and a resume lets it out."""
    ledger = odd.ledger()
    operation = odd.start("die", str(ledger), 3, 15)
    failure = odd.failure(operation)
    assert (failure.type, failure.attempt, failure.worker) == ("WorkerLost", 3, "odd@here")
    wait_for(lambda: "signal 15 (SIGTERM)" in operation.failure().message, 10, lambda: str(operation.failure()))
    assert len(lines(ledger)) == 3
    operation.resume()
    odd.ends(operation, "succeeded")
    assert operation.result_of(operation.plan().steps[1]) == 4


def test_a_message_that_the_broker_gives_out_again_is_dropped(odd: Odd) -> None:
    """`acks_late` with `reject_on_worker_lost`: Celery's second copy meets a step that is on its next attempt."""
    ledger = odd.ledger()
    operation = odd.start("die_and_come_back", str(ledger), 1)
    odd.ends(operation, "succeeded")
    assert len(lines(ledger)) == 2
    wait_for(lambda: events(operation, "dropped") != [], 10)


def test_system_exit_in_a_task_is_a_lost_process(odd: Odd) -> None:
    ledger = odd.ledger()
    operation = odd.start("leave", str(ledger), 1)
    odd.ends(operation, "succeeded")
    assert len(lines(ledger)) == 2


def test_retries_are_counted_as_celery_counts_them_also_over_a_crash(odd: Odd) -> None:
    ledger = odd.ledger()
    operation = odd.start("retry_twice", str(ledger))
    odd.ends(operation, "succeeded")
    assert lines(ledger) == ["0", "1", "2"]


def test_a_task_that_has_used_up_its_retries_fails_with_its_own_error(odd: Odd) -> None:
    ledger = odd.ledger()
    failure = odd.failure(odd.start("never_well", str(ledger)))
    assert (failure.type, failure.message) == ("OSError", "always away")
    assert lines(ledger) == ["tried", "tried"]


@pytest.mark.parametrize("kind", ["Ignore", "Reject"])
def test_a_task_that_gives_no_answer_has_failed(odd: Odd, kind: str) -> None:
    assert odd.failure(odd.start("refuse", kind)).type == kind


def test_children_that_are_replaced_after_some_tasks_lose_nothing(odd: Odd) -> None:
    """`max_tasks_per_child`: an orderly end between two tasks is no crash."""
    operations = [odd.start("spend", 1) for _ in range(5)]
    for operation in operations:
        odd.ends(operation, "succeeded")
        assert json.loads(operation.layout.run.read_text())["interruptions"] == 0
        assert [entry["to"] for entry in events(operation, "state")] == ["running", "succeeded"]


def test_revoking_a_running_steps_task_cancels_its_operation(odd: Odd) -> None:
    """`revoke(terminate=True)`, Flower's Terminate: the step does not come back by recovery; a resume goes on."""
    ledger = odd.ledger()
    operation = odd.start("wait_for_end", str(ledger), 2.0)
    wait_for(lambda: lines(ledger) == ["began"], LONG_S)
    odd.app.control.revoke(f"{operation.id}.0002.1.1.1", terminate=True, signal="SIGKILL")
    odd.ends(operation, "cancelled")
    assert "revoked" in json.loads(operation.layout.run.read_text())["reason"]
    operation.resume()
    odd.ends(operation, "succeeded")
    assert lines(ledger) == ["began", "began"]


def test_revoking_a_step_that_waits_for_its_time_cancels_its_operation(odd: Odd) -> None:
    ledger = odd.ledger()
    operation = odd.start("wait_for_end", str(ledger), 0.1, countdown=3)
    wait_for(lambda: (operation.layout.claim("0002")).exists(), LONG_S)
    odd.app.control.revoke(f"{operation.id}.0002.1.1.1")
    odd.ends(operation, "cancelled")
    assert lines(ledger) == []


def test_a_revoke_of_a_message_that_is_no_longer_the_steps_own_changes_nothing(odd: Odd) -> None:
    """B56: it comes after the task has ended; the record of the end stands."""
    ledger = odd.ledger()
    operation = odd.start("wait_for_end", str(ledger), 0.1)
    odd.ends(operation, "succeeded")
    odd.app.control.revoke(f"{operation.id}.0002.1.1.1", terminate=True)
    other = odd.start("add", 1, 1)
    odd.ends(other, "succeeded")
    assert operation.state == "succeeded"


def test_a_step_whose_message_expires_before_it_is_begun_fails(odd: Odd) -> None:
    """Celery's `expires` keeps its meaning: what comes too late is not done."""
    ledger = odd.ledger()
    failure = odd.failure(odd.start("wait_for_end", str(ledger), 0.1, countdown=1.5, expires=0.5))
    assert failure.type == "TaskRevokedError"
    assert "expired" in failure.message
    assert lines(ledger) == []


def test_a_task_that_no_worker_knows_fails_with_its_name_and_without_a_crash_loop(odd: Odd) -> None:
    """B36: the code disappeared between two steps. Others may know it, so it is tried a few times, ever later."""
    operation = odd.start("gone_for_good")
    failure = odd.failure(operation)
    assert failure.type == "NotRegistered"
    assert "'support.odd_app.gone_for_good'" in failure.message
    assert "odd@here" in failure.message
    assert odd.worker.is_running
    assert odd.worker.output.count("Received unregistered task") <= 4


def test_the_worker_has_outlived_all_that(odd: Odd) -> None:
    operation = odd.start("add", 2, 3)
    odd.ends(operation, "succeeded")
    os.kill(odd.worker.pid, 0)
