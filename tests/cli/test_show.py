"""`tapfs show` and `list` of workflows that fan out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from support.bench import Bench
from support.forest import Worker, chain, group, start, task
from tapfs.bus.document import FIELDS
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Step
from tapfs.bus.records import Checkpoint
from tapfs.bus.saved import write_checkpoint

Tapfs = Callable[..., Result]

GATE = Step("", "approve", "tapfs.gate", kwargs={"name": "approve", "question": "Send it?", "fields": {}})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


def lines_of(tapfs: Tapfs, operation: Operation, *more: str) -> dict[str, list[str]]:
    """The lines that show prints, by their names."""
    found: dict[str, list[str]] = {}
    for line in tapfs("show", operation.id, *more).stdout.splitlines()[1:]:
        found.setdefault(line[2:13].strip(), []).append(line[13:])
    return found


def fan_out(bench: Bench, members: int = 40, **options: Any) -> tuple[Operation, Worker]:
    resizes = [task("resize") for _ in range(members)]
    operation = start(bench, task("read"), group(*resizes, **({"concurrency": 8} | options)), task("join"))
    worker = Worker(bench, operation)
    return operation, worker


def held_from(bench: Bench, operation: Operation, worker: Worker, path: str) -> list[Any]:
    """Do all before that step, and hold what is out then."""
    worker.run(until={path})
    return [bench.claim_at(operation, message.step.path) for message in bench.published[-8:]]


@pytest.mark.parametrize(("verb", "state"), [("pause", "pausing"), ("cancel", "cancelling")])
def test_a_stopping_fan_out_says_how_many_still_run(bench: Bench, tapfs: Tapfs, verb: str, state: str) -> None:
    operation, worker = fan_out(bench)
    held = held_from(bench, operation, worker, "0002/0012")
    getattr(operation, verb)()
    assert lines_of(tapfs, operation)["state"] == [f"{state} (8 of 8 still running)"]
    for one in held[:5]:
        worker.end(one)
    assert lines_of(tapfs, operation)["state"] == [f"{state} (3 of 8 still running)"]
    for one in held[5:]:
        worker.end(one)
    assert lines_of(tapfs, operation)["state"] == ["paused" if verb == "pause" else "cancelled"]


def test_a_stopping_chain_says_nothing_of_the_kind(bench: Bench, tapfs: Tapfs) -> None:
    operation, held = bench.in_state("pausing")
    assert lines_of(tapfs, operation)["state"] == ["pausing"]
    del held


def test_a_running_fan_out_says_how_many_are_done_and_run(bench: Bench, tapfs: Tapfs) -> None:
    operation, worker = fan_out(bench, 200)
    held = held_from(bench, operation, worker, "0002/0112")
    bench.now += 60
    operation.reconcile()
    assert lines_of(tapfs, operation)["steps"] == ["112 of 202 done, 8 running, now 0002/0112-resize"]
    (row,) = tapfs("list").stdout.splitlines()[1:]
    assert row.split()[1:5] == ["running", "112/202", "55", "%"]
    del held


def test_what_one_member_has_done_is_not_taken_for_the_whole(bench: Bench, tapfs: Tapfs) -> None:
    operation, worker = fan_out(bench)
    worker.run(until={"0002/0001"})
    held = bench.claim_at(operation, "0002/0001")
    saved = Checkpoint(done=90.0, total=100.0, unit="rows", running_s=9.0, epoch=1, attempt=1)
    assert write_checkpoint(operation, held, saved)
    bench.now += 60
    operation.reconcile()
    assert lines_of(tapfs, operation)["progress"] == ["90 of 100 rows (90 %) in 0002/0001-resize"]
    (row,) = tapfs("list").stdout.splitlines()[1:]
    assert row.split()[2:5] == ["1/42", "2", "%"]


def test_members_that_were_given_up_are_told_of_with_how_to_do_them_again(bench: Bench, tapfs: Tapfs) -> None:
    operation, worker = fan_out(bench, on_error=CONTINUE)
    worker.failing = {"0002/0003", "0002/0009"}
    worker.run()
    shown = lines_of(tapfs, operation)
    assert shown["state"] == ["succeeded"]
    how = f"when it is paused or has ended, 'tapfs retry {operation.id} --step 0002/0003' does one again"
    assert shown["given up"] == [
        f"2 of 40 members; {how}",
        "0002/0003: ValueError: no paper",
        "0002/0009: ValueError: no paper",
    ]
    assert "message" not in shown, "it would say the same"
    retry = shown["given up"][0].split("'")[1].split()
    assert tapfs(*retry[1:]).exit_code == 0


def test_of_many_members_that_were_given_up_some_are_told_of(bench: Bench, tapfs: Tapfs) -> None:
    operation, worker = fan_out(bench, on_error=CONTINUE)
    worker.failing = {f"0002/00{number:02}" for number in range(1, 41)}
    worker.run()
    told = lines_of(tapfs, operation)["given up"]
    assert len(told) == 7
    assert told[0].startswith("40 of 40 members")
    assert told[-1] == f"... and 35 more: 'tapfs show {operation.id} --steps'"


def test_the_gate_it_waits_at_is_told_once_with_how_to_answer(bench: Bench, tapfs: Tapfs) -> None:
    operation = start(bench, GATE, task("send"))
    operation.reconcile()
    (message,) = lines_of(tapfs, operation)["message"]
    assert message == f"gate 0001-approve waits for an answer: Send it? Answer with: tapfs answer {operation.id} --go"
    assert "gate" not in lines_of(tapfs, operation)
    operation.pause()
    (gate,) = lines_of(tapfs, operation)["gate"]
    assert gate == f"0001-approve: Send it? Answer with: tapfs answer {operation.id} --gate 0001-approve --go"


def test_the_steps_are_shown_as_a_tree_with_their_states(bench: Bench, tapfs: Tapfs) -> None:
    members = (task("a"), chain("b", "c"), task("d"), task("e"))
    operation = start(bench, task("read"), group(*members, on_error=CONTINUE), GATE, task("send"))
    worker = Worker(bench, operation)
    worker.failing = {"0002/0003"}
    worker.run(until={"0002/0004"})
    held = bench.claim_at(operation, "0002/0004")
    shown = tapfs("show", operation.id, "--steps").stdout
    assert shown.endswith(
        "  0001-read             done\n"
        "  0002                  group of 4: 1 done, 1 begun, 1 given up, 1 running\n"
        "    0002/0001-a         done\n"
        "    0002/0002           chain of 2: begun\n"
        "      0002/0002/0001-b  done\n"
        "      0002/0002/0002-c  published\n"
        "    0002/0003-d         given up: ValueError: no paper\n"
        "    0002/0004-e         running\n"
        "  0003-approve          not begun\n"
        "  0004-send             not begun\n"
    )
    worker.end(held)
    worker.run()
    shown = tapfs("show", operation.id, "--steps").stdout
    assert "  0003-approve          waits for an answer\n" in shown


def test_the_step_that_failed_is_marked_in_the_tree(bench: Bench, tapfs: Tapfs) -> None:
    """B101: what waits for it is not begun, and nothing waits for ever."""
    operation = start(bench, task("read"), group(task("a"), task("b")), task("send"))
    worker = Worker(bench, operation)
    worker.failing = {"0002/0001"}
    worker.run()
    assert operation.state == "failed"
    shown = tapfs("show", operation.id, "--steps").stdout
    assert "    0002/0001-a  failed\n" in shown
    assert "  0003-send      not begun\n" in shown


def test_of_a_large_group_the_ends_are_shown_and_what_is_not_as_the_others(bench: Bench, tapfs: Tapfs) -> None:
    operation, worker = fan_out(bench, 300, on_error=CONTINUE)
    worker.failing = {"0002/0100"}
    held = held_from(bench, operation, worker, "0002/0200")
    shown = tapfs("show", operation.id, "--steps").stdout.splitlines()
    tree = shown[next(number for number, line in enumerate(shown) if line.startswith("  0001-read")) :]
    assert tree[1].split("  ")[-1] == "group of 300: 198 done, 1 given up, 8 running, 93 not begun"
    assert [line.strip() for line in tree if "more" in line] == ["... 96 more", "... 99 more", "... 90 more"]
    assert sum(line.endswith("  running") for line in tree) == 8
    assert len(tree) < 25
    del held


def test_a_fan_out_has_the_same_document_as_a_chain(bench: Bench, tapfs_json: Callable[..., Any]) -> None:
    """B99."""
    operation, worker = fan_out(bench, on_error=CONTINUE)
    worker.failing = {"0002/0003"}
    worker.run(until={"0003"})
    bench.now += 60
    operation.reconcile()
    document = tapfs_json("show", operation.id)
    assert tuple(document) == FIELDS
    assert (document["steps_done"], document["steps_total"], document["step"]) == (40, 42, "0003-join")
    assert tapfs_json("list") == [tapfs_json("show", operation.id)]


@pytest.mark.parametrize("name", ["workflow.json", "run.json", "operation.json", "steps/0002/0003.error.json"])
def test_what_is_spoilt_keeps_nothing_else_from_being_shown(bench: Bench, tapfs: Tapfs, name: str) -> None:
    operation, worker = fan_out(bench, on_error=CONTINUE)
    worker.failing = {"0002/0003"}
    worker.run(until={"0002/0012"})
    (operation.path / name).write_bytes(b"\x00\xff")
    result = tapfs("show", operation.id)
    assert result.exit_code == 0
    assert "  state      running\n" in result.stdout
