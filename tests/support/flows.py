"""A worker without a broker: messages wait in a list, and are delivered when and as often as the test says."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from celery.app.trace import build_tracer

from support.waiting import wait_for
from tapfs import Bus, Operation, Source, State
from tapfs.bus.plan import Step
from tapfs.bus.publication import Publication
from tapfs.bus.records import Claim, Failure
from tapfs.bus.states import FINAL
from tapfs.flow.message import HEADER, header_for
from tapfs.flow.supervisor import Supervisor

WORKER = "worker@here"


class Post:
    """The publisher of a bus: keeps what is published until it is delivered, in this thread, as a worker would run it.

    Attributes:
        waiting: what is published and not delivered, oldest first.
        sent: all that was ever published.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.waiting: list[Publication] = []
        self.sent: list[Publication] = []

    def __call__(self, publication: Publication) -> None:
        self.waiting.append(publication)
        self.sent.append(publication)

    def deliver(self, publication: Publication, **changes: Any) -> Any:
        """Run what a message asks for, with some fields of its header changed; returns what the tracer says."""
        header = header_for(publication) | changes
        return self.deliver_header(publication.step.task, header, retries=publication.retries)

    def deliver_header(self, task_name: str, header: Any, *, retries: int = 0, has_header: bool = True) -> Any:
        """Run a task as a worker does on a message without arguments and with that header."""
        task = self.app.tasks[task_name]
        request = {
            "id": f"id-{len(self.sent)}",
            "hostname": WORKER,
            "retries": retries,
            "headers": {HEADER: header} if has_header else {},
            "delivery_info": {},
            "is_eager": False,
        }
        tracer = build_tracer(task.name, task, app=self.app, hostname=WORKER)
        return tracer(request["id"], [], {}, request)

    def deliver_next(self) -> Publication:
        """Deliver the oldest message."""
        publication = self.waiting.pop(0)
        self.deliver(publication)
        return publication

    def deliver_all(self, most: int = 5000) -> int:
        """Deliver until none waits; returns how many were."""
        for count in range(most):
            if not self.waiting:
                return count
            self.deliver_next()
        raise AssertionError(f"there is no end of messages: {self.waiting[0]}")


class Numbers(Source[list[int]]):
    """Whole numbers from 0, some at a time; the cursor is the next number.

    Attributes:
        read_from: the cursor of each `read`.
        on_chunk: called with the last number of each chunk before it is handed out.
    """

    unit = "numbers"

    def __init__(self, count: int, at_once: int = 1, on_chunk: Callable[[int], object] | None = None) -> None:
        self.count = count
        self.at_once = at_once
        self.on_chunk = on_chunk
        self.read_from: list[Any] = []

    def identity(self) -> dict[str, Any]:
        return {"count": self.count}

    def total(self) -> int | None:
        return self.count

    def read(self, cursor: Any) -> Iterator[tuple[list[int], Any, int]]:
        self.read_from.append(cursor)
        start = cursor or 0
        while start < self.count:
            end = min(start + self.at_once, self.count)
            if self.on_chunk is not None:
                self.on_chunk(end - 1)
            yield list(range(start, end)), end, end
            start = end


@contextmanager
def supervised(bus: Bus, **options: Any) -> Iterator[Supervisor]:
    """Supervise in a thread; begins when the first scan is over, so that what comes then is seen by other means."""
    bus.control.prepare()
    last = bus.control.layout.active / "99991231-235959-gone-abcdef"
    last.touch()
    os.utime(last, (0, 0))  # an old entry without an operation is taken away
    supervisor = Supervisor(bus, **options)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        wait_for(lambda: not last.exists(), message="the supervisor does not scan")
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(10)
        assert not thread.is_alive()


def finish(bus: Bus, post: Post, operation: Operation, most: int = 2000) -> State:
    """Deliver, resume when it is paused, until the operation has ended; returns its state."""
    for _ in range(most):
        post.deliver_all()
        bus.reconcile(operation)
        if operation.state in FINAL:
            return operation.state
        if operation.state is State.PAUSED:
            operation.resume()
    raise AssertionError(f"operation {operation.id} is still {operation.state}: {journal_of(operation)[-5:]}")


def journal_of(operation: Operation) -> list[dict[str, Any]]:
    """The lines of an operation's journal."""
    return list(operation.journal.entries())


def claim_of(operation: Operation, path: str = "0001") -> Claim:
    """The claim of a step that is out."""
    return Claim.read(operation.path / "claims" / path)


def failure_of(operation: Operation) -> Failure:
    """What `error.json` says."""
    failure = operation.failure()
    assert failure is not None, journal_of(operation)[-5:]
    return failure


def drops_of(operation: Operation) -> list[str]:
    """Why messages had no effect, as the journal has it."""
    return [line["reason"] for line in journal_of(operation) if line["event"] == "dropped"]


def touch(path: Path, text: str = "") -> None:
    """Make a file, as a person would."""
    path.write_text(text)


#: A task's name as long as any.
LONG_NAME = "warehouse.replenishment.tasks.recalculate_every_price_of_a_region_and_tell_the_shops"


def publication(**changes: Any) -> Publication:
    values = {
        "operation_id": "20261122-101502-tally-k7f3q2",
        "step": Step("0003", "save", "shop.save"),
        "epoch": 2,
        "attempt": 3,
        "number": 4,
        "retries": 1,
        "not_before": None,
    }
    return Publication(**(values | changes))


def queued(client: redis.Redis, queue: str = "celery") -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.lrange(queue, 0, -1)]


class Clock:
    """Stands in for the module `time`; it goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now
