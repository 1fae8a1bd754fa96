"""What is asked: the want, the markers, and which is in force."""

import os
from pathlib import Path

import pytest

from support.bench import Bench
from tapfs.bus.operation import Operation
from tapfs.bus.records import LONGEST_REASON
from tapfs.bus.requests import Request, in_force, markers, own, strongest
from tapfs.bus.states import Want


def asked(operation: Operation) -> tuple[str, str | None, str]:
    request = in_force(operation.control, operation.layout)
    return request.want.value, request.reason, request.source


def test_nothing_asked_is_run(bench: Bench) -> None:
    assert asked(bench.start()) == ("run", None, "state.json")


def test_a_marker_asks_and_its_text_is_the_reason(bench: Bench) -> None:
    operation = bench.start()
    marker = operation.path / "PAUSE"
    marker.write_text("  out for\n\n lunch\t\x1b[31m \n")
    assert asked(operation) == ("pause", "out for lunch [31m", "PAUSE")
    marker.unlink()
    assert asked(operation)[0] == "run"


def test_the_bus_marker_asks_of_every_operation(bench: Bench) -> None:
    operations = [bench.start(), bench.start()]
    (bench.path / "PAUSE").write_text("maintenance")
    assert [asked(operation) for operation in operations] == [("pause", "maintenance", "control/PAUSE")] * 2


def test_the_strongest_request_is_in_force_and_of_equals_the_first(bench: Bench) -> None:
    """X03."""
    operation = bench.start()
    (bench.path / "PAUSE").touch()
    (operation.path / "PAUSE").write_text("mine")
    assert asked(operation) == ("pause", "mine", "PAUSE")
    (operation.path / "CANCEL").touch()
    assert asked(operation) == ("cancel", None, "CANCEL")
    everything = [Request(want, None, want.value, "") for want in (Want.RUN, Want.CANCEL, Want.PAUSE)]
    assert strongest(everything).want is Want.CANCEL


@pytest.mark.parametrize("kind", ["folder", "link", "FIFO", "binary", "large", "unreadable"])
def test_existence_is_the_request_whatever_is_there(bench: Bench, kind: str) -> None:
    operation = bench.start()
    path = operation.path / "PAUSE"
    _make(path, kind)
    (request,) = markers(operation.control, operation.layout)
    assert (request.want, request.by) == (Want.PAUSE, "file:PAUSE")
    assert request.reason == ("\ufffd \ufffd" if kind == "binary" else None)


def _make(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.write_bytes({"binary": b"\xff\0\xfe", "large": b"x" * 100_000, "unreadable": b""}[kind])


def test_a_long_reason_is_cut(bench: Bench) -> None:
    operation = bench.start()
    (operation.path / "PAUSE").write_text("x" * 5000)
    assert len(asked(operation)[1] or "") == LONGEST_REASON


def test_an_edit_is_in_force_before_anybody_has_taken_it_in(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.write_text('{"want": "pause", "reason": "by hand"}')
    assert asked(operation) == ("pause", "by hand", "state.json")
    assert own(operation.reconcile().run).by == "file:state.json"
    assert asked(operation) == ("pause", "by hand", "state.json")


@pytest.mark.parametrize("text", ["", '{"want": "pau', '{"want": "stop"}'])
def test_a_state_that_says_nothing_valid_counts_as_what_was_last_accepted(bench: Bench, text: str) -> None:
    operation = bench.start(want=Want.PAUSE, reason="wait")
    operation.layout.state.write_text(text)
    assert asked(operation) == ("pause", "wait", "state.json")
    operation.layout.state.unlink()
    assert asked(operation) == ("pause", "wait", "state.json")


def test_a_tap_is_not_stopped_by_a_run_json_that_is_gone(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.run.unlink()
    assert asked(operation)[0] == "run"


def test_an_edit_written_into_a_displaced_file_is_in_force(bench: Bench) -> None:
    operation = bench.start()
    with operation.layout.state.open("r+") as editor:
        bench.claim(operation)
        editor.truncate()
        editor.write('{"want": "pause", "reason": "late"}')
    assert '"running"' in operation.layout.state.read_text()
    assert asked(operation) == ("pause", "late", "state.json")
