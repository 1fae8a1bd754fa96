"""Tasks for fan-outs, in a worker of their own app: each notes that it began, so that a repetition is seen."""

from __future__ import annotations

import os
import time

from celery import Celery

from tapfs import Bus
from tapfs.flow import broker as broker  # makes the embedded broker known to kombu

app = Celery("fan_out", broker=os.environ.get("FAN_OUT_BROKER"), task_cls="tapfs.flow:TappableTask")
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True, broker_connection_retry_on_startup=True
)
bus = Bus(app=app)


def _note(*words: object) -> None:
    with open(os.environ["FAN_OUT_NOTES"], "a") as stream:
        stream.write(" ".join(map(str, words)) + "\n")


@app.task(name="fan.tiny")
def tiny(number: int) -> int:
    _note("tiny", number)
    return number


@app.task(name="fan.nap")
def nap(number: int, seconds: float) -> int:
    _note("nap", number)
    time.sleep(seconds)
    return number


@app.task(name="fan.add")
def add(left: int, right: int) -> int:
    time.sleep(0.02)
    return left + right


@app.task(name="fan.odd")
def odd(number: int) -> int:
    """Raise for every third."""
    _note("odd", number)
    if number % 3 == 0:
        raise ValueError(f"{number} is not to be had")
    return number


@app.task(name="fan.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="fan.spread")
def spread(number: int) -> list[int]:
    return [number, number + 1]
