"""A Celery app whose tasks end in every way that a task can end; what they do is told by their arguments."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from tapfs import Bus, tap

app = Celery("odd", broker=os.environ.get("ODD_BROKER", "memory://"), task_cls="tapfs.flow:TappableTask")
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="odd",
    worker_prefetch_multiplier=1,
    worker_max_tasks_per_child=3,
)
bus = Bus(app=app)


def note(ledger: str, word: str) -> int:
    """Add a line; returns how many there are now."""
    with Path(ledger).open("a") as stream:
        stream.write(f"{word}\n")
    return len(Path(ledger).read_text().splitlines())


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(time_limit=2)
def hang(ledger: str) -> None:
    """Never ends by itself, and never comes to a tap."""
    note(ledger, "began")
    time.sleep(3600)


@app.task(soft_time_limit=1)
def overrun(ledger: str, is_patient: bool) -> str:
    """Is told of its soft limit, and either ends well or not."""
    try:
        time.sleep(3600)
    except SoftTimeLimitExceeded:
        note(ledger, "told")
        if not is_patient:
            raise
    return "in time after all"


@app.task
def die(ledger: str, times: int, number: int = signal.SIGKILL) -> int:
    """Take its process down so many times, then return how often it was begun."""
    count = note(ledger, str(os.getpid()))
    if count <= times:
        os.kill(os.getpid(), number)
        time.sleep(60)
    return count


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_and_come_back(ledger: str, times: int) -> int:
    """The same, with a broker that gives the message out again."""
    return die.run(ledger, times)


@app.task
def leave(ledger: str, times: int) -> int:
    """Raise SystemExit so many times."""
    count = note(ledger, "left")
    if count <= times:
        sys.exit(3)
    return count


@app.task
def wait_for_end(ledger: str, seconds: float) -> str:
    """Come to taps for so long."""
    note(ledger, "began")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        tap.check()
        time.sleep(0.02)
    return "ended"


@app.task(bind=True, max_retries=3)
def retry_twice(self: Any, ledger: str) -> int:
    """Ask for two retries."""
    note(ledger, str(self.request.retries))
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(autoretry_for=(OSError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
def never_well(ledger: str) -> None:
    """Fail for good after one retry."""
    note(ledger, "tried")
    raise OSError("always away")


@app.task
def refuse(kind: str) -> None:
    """Raise one of Celery's own."""
    raise {"Ignore": Ignore("no answer"), "Reject": Reject("not ours")}[kind]


@app.task
def spend(pages: int) -> int:
    """A child's life: its process is replaced after so many."""
    return os.getpid() if pages else 0
