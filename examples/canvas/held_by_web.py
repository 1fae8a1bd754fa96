"""A mailing that a web address can hold.

    export TAPFS_APP=held_by_web:app SWITCH_URL=http://127.0.0.1:8000/switch
    tapfs run mailing count=100

The address answers `{"hold": true}` or `{"hold": false}`. When it says hold, the mailing pauses after the next mail.
`tapfs resume` lets it go on; or `release()`, from a cron job or a Celery beat, once the address says so.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

from celery import Celery, group

from tapfs import Bus, State, tappable
from tapfs.flow.broker import broker_url

app = Celery("held_by_web", broker=broker_url("control/broker"), task_cls="tapfs.flow:TappableTask")
bus = Bus(app=app)


def switch() -> dict[str, Any]:
    """What the address says; raises `OSError` when it does not answer in time."""
    with urllib.request.urlopen(os.environ["SWITCH_URL"], timeout=2) as answer:
        return dict(json.load(answer))


def is_held(last: Any) -> bool:
    """The clause, asked with the last step's result. What it raises pauses too: no answer is no leave to go on."""
    return bool(switch()["hold"])


def tell(last: Any, remaining: list[dict[str, Any]]) -> None:
    """The callback, told of each pause: tells the same address what is left."""
    body = json.dumps({"left": len(remaining)}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["SWITCH_URL"], body, headers, method="POST")
    urllib.request.urlopen(request, timeout=2).close()


@app.task
def send(number: int) -> int:
    return number


@app.task
def report(numbers: list[int]) -> dict[str, int]:
    return {"sent": len(numbers)}


@bus.operation
def mailing(count: int = 100) -> Any:
    """Send mails, three at a time, for as long as a web address lets it."""
    workflow = group(send.s(number) for number in range(count)) | report.s()
    return tappable(workflow, clause=is_held, callback=tell, concurrency=3, bus=bus)


def release() -> list[str]:
    """Let all mailings go on that were paused by the address, if it says so now; returns their ids."""
    if switch()["hold"]:
        return []
    found = [bus.find(operation_id) for operation_id in bus.control.active_ids()]
    held = [one for one in found if one.state is State.PAUSED and "is_held" in str(one.view().reason)]
    return [one.id for one in held if one.resume("the switch is off").changed]
