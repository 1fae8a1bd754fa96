"""Gates with a real worker: the operation waits, and goes on when a person answers, in whichever way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support import wait_for
from tapfs import gate, tappable
from tapfs.bus.operation import Operation
from tapfs.flow.bus import Bus

MODULE = """
import os

from celery import Celery

from tapfs import Bus

app = Celery("gated", task_cls="tapfs.flow:TappableTask")
bus = Bus(os.environ["TAPFS_CONTROL"], app=app)


@app.task
def prepare(count):
    return count


@app.task
def send(told):
    return told
"""
LONG_S = 30.0


class Gated:
    """A worker of an app of its own, and operations of it."""

    def __init__(self, site: Any, folder: Path, broker: str) -> None:
        self.site = site
        (folder / "gated.py").write_text(MODULE)
        site.variables["CELERY_BROKER_URL"] = broker
        self.app = Celery("gated", broker=broker, task_cls="tapfs.flow:TappableTask", set_as_current=False)
        self.bus = Bus(site.control, app=self.app)
        site.worker_of("gated", "--concurrency", "2", folder=folder)

    def start(self, **question: Any) -> Operation:
        """Start a chain that waits at its gate."""
        prepare = self.app.signature("gated.prepare", args=(10_000,))
        approve = gate("approve", "Send 10,000 mails?", fields={"ok": bool}, passes="both", **question)
        operation = tappable(prepare | approve | self.app.signature("gated.send"), bus=self.bus).delay()
        wait_for(lambda: operation.state == "waiting", LONG_S, lambda: self.site.show(operation))
        return operation

    def ends(self, operation: Operation, state: str) -> None:
        wait_for(operation.ready, LONG_S, lambda: self.site.show(operation))
        assert operation.state == state, self.site.show(operation)


@pytest.fixture
def gated(site: Any, tmp_path: Path, redis_url: str) -> Gated:
    return Gated(site, tmp_path, redis_url)


def folder_of(operation: Operation) -> Path:
    return operation.path / "gates" / "0002-approve"


def test_it_waits_until_it_is_answered_by_the_command_line(gated: Gated) -> None:
    """B84."""
    operation = gated.start()
    shown = gated.site.tapfs("answer", operation.id).output
    assert "Send 10,000 mails?" in shown
    refused = gated.site.tapfs("answer", operation.id, "ok=perhaps", expect=1)
    assert "'ok'" in refused.errors
    assert operation.state == "waiting"
    answered = gated.site.tapfs("answer", operation.id, "ok=yes", "--json")
    assert json.loads(answered.output)["changed"] is True
    gated.ends(operation, "succeeded")
    assert operation.result == [10_000, {"ok": True}]
    assert [line["by"].partition(":")[0] for line in gated.site.journal(operation, "answered")] == ["cli"]


def test_it_goes_on_by_itself_when_an_answer_is_saved(gated: Gated) -> None:
    """B84: nonsense first, which is set aside."""
    operation = gated.start()
    (folder_of(operation) / "answer.json").write_text('{"okay": true}\n')
    kept = folder_of(operation) / "answer.json.rejected-1"
    wait_for(kept.exists, LONG_S, lambda: gated.site.show(operation))
    wait_for(lambda: "does not count" in (operation.view().message or ""), LONG_S)
    assert (operation.state, kept.read_text()) == ("waiting", '{"okay": true}\n')
    (folder_of(operation) / "answer.json").write_text('{"ok": false, "answered_by": "Ada"}\n')
    gated.ends(operation, "succeeded")
    assert operation.result == [10_000, {"ok": False}]
    assert [line["by"] for line in gated.site.journal(operation, "answered")] == ["Ada"]


def test_at_its_time_limit_it_goes_on_by_itself_or_fails(gated: Gated) -> None:
    """B85."""
    operation = gated.start(timeout_s=1, default={"ok": False})
    other = gated.start(timeout_s=1)
    gated.ends(operation, "succeeded")
    assert operation.result == [10_000, {"ok": False}]
    gated.ends(other, "failed")
    failure = other.failure()
    assert failure is not None
    assert failure.message == "nobody answered within 1 s, and there is no default: Send 10,000 mails?"


def test_while_it_waits_it_is_cancelled(gated: Gated) -> None:
    """B43."""
    operation = gated.start()
    gated.site.tapfs("cancel", operation.id)
    gated.ends(operation, "cancelled")
    assert json.loads((folder_of(operation) / "request.json").read_text())["closed"] == "cancelled"
