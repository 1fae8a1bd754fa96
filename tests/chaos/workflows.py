"""The operations of a chaos run, and the app and bus they run on. Every attempt at a step goes into the ledger."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from celery import Celery, chain, group, shared_task

from chaos.ledger import attempt
from tapfs import Bus, CsvFile, tap, then
from tapfs.bus.decide import Recovery
from tapfs.bus.publication import Publication, Publisher
from tapfs.flow.broker import broker_url

#: Bytes of a chunk of the fold: about 25 rows, so that a step has some 40 taps.
_CHUNK_BYTES = 600
_TICK_S = 0.05
#: Seconds without a sign of life after which a holder loses its step; the long stops last longer.
SILENT_AFTER_S = 25.0

Counts = dict[str, dict[str, int]]


class Flaky(Exception):
    """What a step that is retried raises."""


def make_bus(control: Path, broker: str | None, *, first_delay_s: float = 10.0, seed: int = 0) -> Bus:
    """Make the app and its bus.

    Args:
        control: the control directory.
        broker: a broker URL; None for the embedded broker.
        first_delay_s: seconds until a lost message is published again; the longest delay is three times that.
        seed: of the doorbell that misbehaves.
    """
    app = Celery("chaos", task_cls="tapfs.flow:TappableTask")
    app.conf.update(
        broker_url=broker or broker_url(os.path.abspath(control / "broker")),
        broker_connection_retry_on_startup=True,
        task_default_queue="chaos",
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        task_acks_late=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    recovery = Recovery(
        first_delay_s=first_delay_s,
        longest_delay_s=3 * first_delay_s,
        # Here a step loses many holders, and none by its own fault.
        max_crashes=10**6,
        max_interruptions=10**6,
        silent_after_s=SILENT_AFTER_S,
    )
    bus = Bus(control, app=app, recovery=recovery)
    publisher = bus.control.publisher
    assert publisher is not None
    bus.control.publisher = Doubling(publisher, seed)
    for operation in (fold, relay, effects, flaky, later, blind, fan, onward):
        bus.operation(operation)
    return bus


class Doubling:
    """A publisher that sends every message twice, and now and then an old one once more, late and out of order."""

    def __init__(self, publisher: Publisher, seed: int) -> None:
        self._publisher = publisher
        self._chance = random.Random(f"{seed} {os.getpid()}")
        self._earlier: list[Publication] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)

    def __call__(self, publication: Publication) -> None:
        if self._earlier and self._chance.random() < 0.2:
            self._publisher(self._chance.choice(self._earlier))
        self._earlier = [*self._earlier[-20:], publication]
        self._publisher(publication)
        self._publisher(publication)


def fold(path: Path, pace_s: float = 0.05) -> Any:
    """Count a file's rows in one step with many taps, between two short ones."""
    return chain(look.s(str(path)), count.s(str(path), pace_s), total.s())


def relay(steps: int = 30) -> Any:
    """Hand a list through many short steps; each adds its number and its attempt's token."""
    return chain(leg.s([], 1), *(leg.s(number) for number in range(2, steps + 1)))


def effects(steps: int = 5, seconds: float = 1.0) -> Any:
    """The same with long steps; every other one has no tap inside."""
    return chain(leg.s([], 1, seconds), *(leg.s(number, seconds, number % 2 == 0) for number in range(2, steps + 1)))


def flaky(steps: int = 3, tries: int = 3) -> Any:
    """The same with steps that raise until the last of so many tries."""
    return chain(
        stumble.s([], 1, tries), *(stumble.s(number, tries if number % 2 else 1) for number in range(2, steps + 1))
    )


def later(steps: int = 3, countdown: float = 1.5) -> Any:
    """The same with steps that wait before they begin."""
    return chain(leg.s([], 1), *(leg.s(number, 0.2).set(countdown=countdown) for number in range(2, steps + 1)))


def blind(seconds: float = 15.0) -> Any:
    """The same with one step that is long and has no tap: frozen and given away, it may wake while another is at it."""
    return chain(leg.s([], 1), leg.s(2, seconds, False), leg.s(3))


def fan(width: int = 6, length: int = 3) -> Any:
    """A group of chains between two steps; each chain hands its own list on."""
    members = (chain(*(leg.s(number, 0.2) for number in range(2, length + 2))) for _ in range(width))
    return chain(leg.s([], 1), group(members), gather.s())


def onward(steps: int = 8) -> Any:
    """A step that says what comes next, so often."""
    return further.s([], 1, steps)


@shared_task(bind=True, name="chaos.look")
def look(self: Any, path: str) -> list[str]:
    """The columns of the file."""
    with attempt(self):
        return list(CsvFile(path).columns)


@shared_task(bind=True, name="chaos.count")
def count(self: Any, columns: list[str], path: str, pace_s: float) -> dict[str, Counts]:
    """Fold the file twice: by company and gender, and by gender and company."""
    with attempt(self):
        found: dict[str, Counts] = {}
        for by, of in (("company", "gender"), ("gender", "company")):
            places = columns.index(by), columns.index(of)
            totals: Counts
            for totals, rows in tap.fold(CsvFile(path, chunk_bytes=_CHUNK_BYTES), {}):
                for row in rows:
                    group = totals.setdefault(row[places[0]], {})
                    group[row[places[1]]] = group.get(row[places[1]], 0) + 1
                time.sleep(pace_s)
            found[by] = totals
        return found


@shared_task(bind=True, name="chaos.total")
def total(self: Any, found: dict[str, Counts]) -> dict[str, Any]:
    """Add how many rows each count has."""
    with attempt(self):
        rows = {by: sum(sum(group.values()) for group in totals.values()) for by, totals in found.items()}
        return {**found, "rows": rows}


@shared_task(bind=True, name="chaos.leg")
def leg(self: Any, before: list[Any], number: int, seconds: float = 0.0, has_taps: bool = True) -> list[Any]:
    """Take some time, then add this step to the list."""
    with attempt(self) as token:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if has_taps:
                tap.progress(round(seconds - left, 2), seconds, unit="seconds")
            time.sleep(min(_TICK_S, left))
        return [*before, [number, token]]


@shared_task(bind=True, name="chaos.gather")
def gather(self: Any, lists: list[Any]) -> list[Any]:
    """The lists of a group's members."""
    with attempt(self):
        return lists


@shared_task(bind=True, name="chaos.further")
def further(self: Any, before: list[Any], number: int, last: int) -> Any:
    """Add this step to the list, and go on with another until the last."""
    with attempt(self) as token:
        time.sleep(0.2)
        found = [*before, [number, token]]
        return found if number == last else then(further.s(found, number + 1, last))


@shared_task(
    bind=True,
    name="chaos.stumble",
    autoretry_for=(Flaky,),
    retry_backoff=False,
    retry_jitter=False,
    max_retries=20,
    default_retry_delay=0.3,
)
def stumble(self: Any, before: list[Any], number: int, tries: int) -> list[Any]:
    """Raise until the last try, then add this step to the list."""
    with attempt(self) as token:
        time.sleep(0.1)
        if self.request.retries + 1 < tries:
            raise Flaky(f"try {self.request.retries + 1} of {tries}")
        return [*before, [number, token]]
