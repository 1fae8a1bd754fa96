"""The document of an operation."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tapfs.bus import files
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.document import FIELDS, document_of, eta_s
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan, Sequence, Step
from tapfs.bus.publication import Publication
from tapfs.bus.records import Checkpoint, Failure
from tapfs.bus.saved import write_checkpoint
from tapfs.bus.steps import fail_step
from tapfs.errors import OperationUnknown

PLAN = Plan(Sequence((Step("0001", "read", "t.read"), Step("0002", "count", "t.count"))))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.published: list[Publication] = []
        self.control = Control(folder, publisher=self.published.append, actor="test", clock=lambda: self.now)

    def start(self, **more: object) -> Operation:
        new = NewOperation("tally", PLAN, {"path": "a.csv", "token": "s3cr3t"}, masked=("token",), owner="ada")
        return self.control.start(replace(new, **more))

    def claim(self, operation: Operation) -> HeldClaim:
        last = self.published[-1]
        held = claim_step(operation, last.step.path, last.epoch, last.attempt, "worker@test")
        assert isinstance(held, HeldClaim)
        return held


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


def test_every_field_is_there_from_the_start_and_unknown_is_null(bench: Bench) -> None:
    """B99."""
    document = document_of(bench.start())
    assert tuple(document) == FIELDS
    assert {name for name in FIELDS if document[name] is None} == {
        *("reason", "message", "done", "total", "unit", "started_at", "finished_at", "eta_s", "error")
    }


def test_masked_arguments_are_not_shown(bench: Bench) -> None:
    assert document_of(bench.start())["arguments"] == {"path": "a.csv", "token": "***"}


def test_want_and_reason_are_those_of_the_request_in_force(bench: Bench) -> None:
    operation = bench.start()
    (bench.control.path / "PAUSE").write_text("maintenance\n")
    document = document_of(operation)
    assert (document["want"], document["reason"]) == ("pause", "maintenance")
    (operation.path / "CANCEL").write_text("")
    assert document_of(operation)["want"] == "cancel"


def test_a_paused_operation_has_no_end_time(bench: Bench) -> None:
    """B21."""
    operation = bench.start()
    operation.pause("lunch")
    document = document_of(operation)
    assert (document["state"], document["reason"], document["finished_at"]) == ("paused", "lunch", None)


def test_running_time_goes_on_while_a_step_runs_and_stands_still_while_it_is_held(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    bench.now += 5
    assert document_of(operation)["running_s"] == 5.0
    fail_step(operation, held, Failure(type="ValueError", message="no"))
    bench.now += 100
    assert document_of(operation)["running_s"] == 5.0


def test_progress_and_eta_are_those_of_the_running_step(bench: Bench) -> None:
    """B89."""
    operation = bench.start()
    held = bench.claim(operation)
    write_checkpoint(operation, held, Checkpoint(done=250, total=1000, unit="rows", running_s=10.0))
    document = document_of(operation)
    assert (document["done"], document["total"], document["unit"], document["eta_s"]) == (250, 1000, "rows", 30.0)


@pytest.mark.parametrize(
    ("done", "total", "running_s"),
    [(0, 100, 5.0), (None, 100, 5.0), (5, None, 5.0), (100, 100, 5.0), (120, 100, 5.0), (5, 100, 0.0), (5, 0, 1.0)],
)
def test_there_is_no_eta_at_zero_without_a_total_or_when_finished(
    done: float | None, total: float | None, running_s: float
) -> None:
    """B89."""
    assert eta_s(done, total, running_s) is None


def test_a_failed_operation_shows_its_error_as_an_object(bench: Bench) -> None:
    operation = bench.start()
    fail_step(operation, bench.claim(operation), Failure(type="ValueError", message="no", step="0001-read", attempt=1))
    document = document_of(operation)
    assert document["state"] == "failed"
    assert (document["error"]["type"], document["error"]["step"]) == ("ValueError", "0001-read")
    assert document["finished_at"] is not None


@pytest.mark.parametrize("name", ["operation.json", "run.json", "error.json"])
def test_a_spoilt_record_is_named_in_message_and_the_rest_is_told(bench: Bench, name: str) -> None:
    operation = bench.start()
    (operation.path / name).write_bytes(b"\xff{")
    document = document_of(operation)
    assert tuple(document) == FIELDS
    assert name in document["message"]
    assert document["state"] == "queued"


def test_a_missing_identity_is_named_and_the_rest_is_told(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.identity.unlink()
    document = document_of(operation)
    assert (document["operation"], document["state"]) == (None, "queued")
    assert document["message"]


def test_a_misspelt_marker_is_hinted_at_in_message(bench: Bench) -> None:
    operation = bench.start()
    (operation.path / "pause").touch()
    assert document_of(operation)["message"] == "'pause' asks for nothing: did you mean 'PAUSE'?"


def test_a_step_edited_into_a_path_leads_nowhere(bench: Bench) -> None:
    operation = bench.start()
    outside = operation.path / "elsewhere.checkpoint.json"
    outside.write_text('{"done": 7}')
    view = operation.view()
    files.replace(operation.layout.state, replace(view, step="../elsewhere").encode())
    assert document_of(operation)["done"] is None


def test_an_operation_that_is_gone_is_unknown(bench: Bench) -> None:
    with pytest.raises(OperationUnknown):
        document_of(bench.control.operation("20261122-101502-tally-aaaaaa"))


def test_reading_writes_nothing_and_takes_no_lock(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation)
    before = _state_of_folder(operation.path)
    with operation.locked():
        began = time.monotonic()
        document_of(Control(bench.control.path).operation(operation.id))
        assert time.monotonic() - began < 1.0
    assert _state_of_folder(operation.path) == before


def _state_of_folder(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [Path(base, name) for base, _, names in os.walk(folder) for name in names if name != "lock"]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}
