"""`tapfs retry`, `rewind`, and `cancel --step`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from support import Processes
from support.bench import Bench, plan_of, snapshot
from support.forest import Worker, chain, group, start, task, without
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE
from tapfs.bus.planfile import encode_plan
from tapfs.bus.states import State

Tapfs = Callable[..., Result]
TapfsJson = Callable[..., Any]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


def failed(bench: Bench) -> Operation:
    operation = bench.start(3)
    bench.step(operation)
    bench.fail(operation)
    return operation


def given_up(bench: Bench) -> Operation:
    """One that succeeded with a member given up."""
    members = (task("resize"), chain("x", "y"), task("resize"))
    operation = start(bench, task("read"), group(*members, on_error=CONTINUE), task("join"))
    worker = Worker(bench, operation)
    worker.failing = {"0002/0002/0002"}
    worker.run()
    assert operation.state is State.SUCCEEDED
    return operation


# ---- retry


def test_retry_does_again_what_failed_and_says_so_in_one_line(bench: Bench, tapfs: Tapfs) -> None:
    """B79."""
    operation = failed(bench)
    result = tapfs("retry", operation.id, "--reason", "paper is in")
    assert (result.exit_code, result.stdout) == (0, f"{operation.id}: running: it goes on as soon as a worker runs\n")
    assert "hint: no worker is seen here" in result.stderr
    operation.reconcile()
    assert bench.published[-1].step.path == "0002"
    assert operation.view().reason == "paper is in"


@pytest.mark.parametrize("state", ["queued", "running", "paused", "cancelled", "succeeded"])
def test_what_has_not_failed_refuses_a_retry_without_a_step_and_stays_as_it_is(
    bench: Bench, tapfs: Tapfs, state: str
) -> None:
    """B79."""
    operation, held = bench.in_state(state)
    before = without(snapshot(operation.path), "lock", ".state.json")
    result = tapfs("retry", operation.id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"tapfs: cannot retry operation '{operation.id}': it is {state}, not failed\nhint: "
    )
    assert "--step" in result.stderr
    assert without(snapshot(operation.path), "lock", ".state.json") == before
    del held


@pytest.mark.parametrize("step", ["0002/0002", "0002", "0002/0002/0002-y", "y"])
def test_retry_of_a_member_that_was_given_up_runs_only_that_and_what_waits_for_it(
    bench: Bench, tapfs_json: TapfsJson, step: str
) -> None:
    """B79."""
    operation = given_up(bench)
    answer = tapfs_json("retry", operation.id, "--step", step)
    assert (answer["success"], answer["changed"], answer["state"]) == (True, True, "running")
    worker = Worker(bench, operation)
    worker.finish()
    assert worker.ran == ["0002/0002/0002", "0003"]
    assert operation.state is State.SUCCEEDED


def test_retry_of_all_is_every_operation_that_has_failed(bench: Bench, tapfs_json: TapfsJson) -> None:
    one, other, running = failed(bench), failed(bench), bench.start()
    answers = tapfs_json("retry", "--all")
    assert {answer["operation_id"] for answer in answers} == {one.id, other.id}
    assert [operation.state for operation in (one, other, running)] == ["running", "running", "queued"]


def test_retry_of_all_of_none_says_so(tapfs: Tapfs) -> None:
    assert tapfs("retry", "--all").stderr == "tapfs: no failed operations in 'control'\n"


def test_one_that_cannot_be_retried_keeps_no_other_from_it(bench: Bench, tapfs: Tapfs) -> None:
    one, other = bench.start(), failed(bench)
    result = tapfs("retry", one.id, "nosuch", other.id, "--json")
    assert result.exit_code == 1
    assert [answer["success"] for answer in json.loads(result.stdout)] == [False, False, True]


# ---- rewind


def test_rewind_goes_back_and_says_where_to(bench: Bench, tapfs: Tapfs) -> None:
    operation = bench.start(3)
    bench.finish(operation)
    result = tapfs("rewind", operation.id, "--to", "0002-one", "--reason", "wrong total")
    told = f"{operation.id}: running: rewound to 0002; it goes on from there as soon as a worker runs\n"
    assert (result.exit_code, result.stdout) == (0, told)
    assert (operation.path / "attic/epoch-1/steps/0002-one.json").exists()
    operation.reconcile()
    assert bench.published[-1].step.path == "0002"
    (line,) = (line for line in operation.journal.entries() if line["event"] == "rewound")
    assert (line["step"], line["reason"]) == ("0002", "wrong total")


def test_rewind_of_a_running_operation_is_refused(bench: Bench, tapfs: Tapfs) -> None:
    """B82."""
    operation, held = bench.in_state("running")
    result = tapfs("rewind", operation.id, "--to", "0001")
    assert (result.exit_code, result.stdout) == (1, "")
    told = (
        f"tapfs: cannot rewind operation '{operation.id}': it is running\nhint: pause it first; nothing was changed\n"
    )
    assert result.stderr == told
    assert held is not None
    assert held.is_ours()


def test_rewind_of_a_paused_operation_says_what_holds_it_still(bench: Bench, tapfs: Tapfs) -> None:
    """B81."""
    operation = bench.start(3)
    bench.step(operation)
    operation.pause()
    (bench.path / "PAUSE").write_text("maintenance")
    result = tapfs("rewind", operation.id, "--to", "0001")
    held = "it goes on as soon as 'control/PAUSE' (maintenance) is gone"
    assert result.stdout == f"{operation.id}: paused: rewound to 0001; {held}\n"
    assert result.stderr == ""


def test_a_place_that_is_none_names_some_that_are(bench: Bench, tapfs: Tapfs) -> None:
    operation = given_up(bench)
    result = tapfs("rewind", operation.id, "--to", "0009")
    assert result.exit_code == 1
    assert "at '0009': its plan has no such step" in result.stderr
    assert "hint: there are: 0001-read, 0002/0001-resize, " in result.stderr
    result = tapfs("rewind", operation.id, "--to", "resize")
    assert "2 steps are called so" in result.stderr
    assert "hint: name one: 0002/0001-resize, 0002/0003-resize; nothing was changed" in result.stderr


def test_waiting_for_a_rewound_operation_ends_when_it_has_succeeded(bench: Bench, tapfs: Tapfs) -> None:
    operation = bench.start(1)
    bench.finish(operation)
    result = tapfs("rewind", operation.id, "--to", "0001", "--wait", "--timeout", "20")
    assert (result.exit_code, result.stdout.startswith(f"{operation.id}: running: rewound to 0001")) == (0, True)


# ---- one member is cancelled


def test_one_member_is_cancelled_while_the_others_go_on(bench: Bench, tapfs: Tapfs) -> None:
    """B52."""
    operation = start(bench, group(chain("a", "b"), chain("c", "d")), task("join"))
    result = tapfs("cancel", operation.id, "--step", "0001/0002", "--reason", "not needed")
    told = f"{operation.id}: {operation.state}: member 0001/0002 is cancelled; the group goes without it\n"
    assert (result.exit_code, result.stdout) == (0, told)
    worker = Worker(bench, operation)
    worker.finish()
    assert worker.ran == ["0001/0001/0001", "0001/0001/0002", "0002"]
    assert "not needed" in operation.result


def test_a_step_that_is_no_member_cannot_be_cancelled_alone(bench: Bench, tapfs: Tapfs) -> None:
    operation = bench.start()
    result = tapfs("cancel", operation.id, "--step", "0001")
    assert result.exit_code == 1
    assert "it is no member of a group\nhint: cancel the operation as a whole" in result.stderr


# ---- what makes no sense; what is imported


@pytest.mark.parametrize(
    "words",
    [
        ("retry",),
        ("retry", "--all", "x"),
        ("retry", "--all", "--step", "0001"),
        ("retry", "x", "--timeout", "1"),
        ("rewind", "x"),
        ("rewind", "--to", "0001"),
        ("rewind", "x", "--to", "0001", "--timeout", "1"),
        ("cancel", "--all", "--step", "0001"),
        ("cancel", "x", "--step", "0001", "--wait"),
        ("cancel", "x", "--step", "0001", "--force"),
        ("show", "x", "--steps", "--json"),
        ("fork", "x"),
    ],
)
def test_what_makes_no_sense_is_not_understood(bench: Bench, tapfs: Tapfs, words: tuple[str, ...]) -> None:
    bench.start()
    result = tapfs(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Usage: tapfs {words[0]}" in result.stderr


@pytest.mark.parametrize("verb", ["resume", "retry", "rewind"])
def test_a_plan_that_no_longer_fits_what_is_done_is_refused_with_the_steps(
    bench: Bench, tapfs: Tapfs, verb: str
) -> None:
    """B35."""
    operation = failed(bench)
    changed = plan_of(3)
    text = encode_plan(changed).replace(b'"path": "0001", "name": "one"', b'"path": "0001", "name": "two"')
    operation.layout.plan.write_bytes(text)
    bench.now += 60
    operation.reconcile()
    before = without(snapshot(operation.path), "lock")
    result = tapfs(verb, operation.id, *(["--to", "0001"] if verb == "rewind" else []))
    assert (result.exit_code, result.stdout) == (1, "")
    faults = "its plan does not fit what is done: step 0001-one is done, but the plan has no such step"
    assert result.stderr.startswith(f"tapfs: cannot {verb} operation '{operation.id}': {faults}\nhint: put '")
    assert without(snapshot(operation.path), "lock") == before


@pytest.mark.parametrize("way", ["task", "arguments"])
def test_a_done_step_whose_task_or_arguments_were_edited_is_named_when_it_is_resumed(
    bench: Bench, tapfs: Tapfs, way: str
) -> None:
    """B35."""
    operation = bench.start(3)
    bench.step(operation)
    operation.pause()
    old, new = (b'"test.one"', b'"test.two"') if way == "task" else (b'"args": []', b'"args": [5]')
    operation.layout.plan.write_bytes(operation.layout.plan.read_bytes().replace(old, new, 1))
    result = tapfs("resume", operation.id)
    assert result.exit_code == 1
    assert "step 0001-one was done with another task or other arguments than the plan has now" in result.stderr


def test_the_queue_of_steps_to_come_can_be_changed_while_it_is_held(bench: Bench, tapfs: Tapfs) -> None:
    """B38."""
    operation = bench.start(3)
    bench.step(operation)
    operation.pause()
    text = operation.layout.plan.read_bytes().replace(b'"options": {}', b'"options": {"queue": "fast"}')
    operation.layout.plan.write_bytes(text)
    assert tapfs("resume", operation.id).exit_code == 0
    operation.reconcile()
    assert (bench.published[-1].step.path, bench.published[-1].step.options) == ("0002", {"queue": "fast"})


@pytest.mark.parametrize("words", [["retry"], ["rewind", "--to", "0001"], ["fork", "--from", "0002"], ["cancel"]])
def test_asking_for_something_to_be_done_again_imports_no_celery(
    bench: Bench, processes: Processes, words: list[str]
) -> None:
    operation = failed(bench) if words != ["cancel"] else start(bench, group(task("a"), task("b")))
    words = ["cancel", "--step", "0001/0001"] if words == ["cancel"] else words
    code = (
        "import sys\nfrom tapfs.cli.program import program\n"
        f"program.main({[words[0], operation.id, *words[1:]]!r}, standalone_mode=False)\n"
        "print('IMPORTED', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    process = processes.python("-c", code, env={**os.environ, "TAPFS_CONTROL": str(bench.path)})
    assert process.wait() == 0, process.tail
    imported = set(process.output.rpartition("IMPORTED")[2].split())
    assert not imported & {"celery", "kombu", "watchdog", "asyncio", "redis", "rich"}
