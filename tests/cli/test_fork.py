"""`tapfs fork`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from support import Processes
from support.bench import Bench, snapshot
from support.forest import Worker
from tapfs.bus.control import Control
from tapfs.bus.operation import Operation
from tapfs.bus.states import State

Tapfs = Callable[..., Result]

#: An operation whose last step alone depends on an argument.
APP = """
from celery import Celery
from tapfs import Bus

app = Celery("shop", task_cls="tapfs.flow:TappableTask")
bus = Bus(app=app)

@app.task(name="read")
def read(path):
    return [1, 2, 3]

@app.task(name="times")
def times(rows, by):
    return [row * by for row in rows]

@bus.operation
def multiply(path: str, by: int = 2):
    return read.s(path) | times.s(by)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


def done(bench: Bench) -> Operation:
    operation = bench.start(3)
    bench.finish(operation)
    return operation


def forks_of(bench: Bench, operation: Operation) -> list[Operation]:
    return [bench.control.operation(one) for one in bench.control.ids() if one != operation.id]


def test_fork_prints_the_new_id_alone_and_leaves_the_source_as_it_is(bench: Bench, tapfs: Tapfs) -> None:
    """B77."""
    operation = done(bench)
    before = snapshot(operation.path)
    result = tapfs("fork", operation.id, "--from", "0003-one")
    (fork,) = forks_of(bench, operation)
    assert (result.exit_code, result.stdout) == (0, f"{fork.id}\n")
    assert f"hint: no worker is seen here: 'tapfs up' starts one, 'tapfs run --resume {fork.id}'" in result.stderr
    assert snapshot(operation.path) == before
    assert fork.identity().forked_from == {"operation": operation.id, "step": "0003"}
    worker = Worker(bench, fork)
    worker.finish()
    assert (worker.ran, fork.state) == (["0003"], State.SUCCEEDED)


def test_fork_answers_in_json(bench: Bench, tapfs_json: Callable[..., Any]) -> None:
    operation = done(bench)
    answer = tapfs_json("fork", operation.id, "--from", "0002")
    (fork,) = forks_of(bench, operation)
    assert answer == {
        "operation_id": fork.id,
        "success": True,
        "changed": True,
        "state": "queued",
        "message": f"started, forked from {operation.id} at 0002",
    }


def test_show_tells_where_a_fork_comes_from(bench: Bench, tapfs: Tapfs) -> None:
    """B77."""
    operation = done(bench)
    fork_id = tapfs("fork", operation.id, "--from", "0002").stdout.strip()
    assert f"  forked     from {operation.id} at 0002\n" in tapfs("show", fork_id).stdout


def test_a_fork_from_where_it_has_not_come_to_is_refused_and_makes_nothing(bench: Bench, tapfs: Tapfs) -> None:
    operation = bench.start(3)
    result = tapfs("fork", operation.id, "--from", "0002", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error["message"].endswith("from 0002: step 0001-one before it is not done")
    assert not forks_of(bench, operation)


def test_a_fork_with_other_arguments_uses_them_and_refuses_what_was_done_with_others(
    processes: Processes, tmp_path: Path
) -> None:
    """B80."""
    (tmp_path / "shop.py").write_text(APP)
    env = {"TAPFS_APP": "shop:app", "PYTHONPATH": str(tmp_path)}
    first = processes.tapfs("run", "multiply", "path=a.csv", env=env)
    assert first.wait(60) == 0, first.tail
    control = Control(tmp_path / "control")
    (source,) = control.ids()
    forking = processes.tapfs("fork", source, "--from", "times", "by=5", env=env, separate_errors=True)
    assert forking.wait(60) == 0, forking.tail
    fork = control.operation(forking.output.strip())
    assert fork.identity().arguments == {"path": "a.csv", "by": 5}
    assert [step.label for step in fork.plan().steps if fork.is_committed(step)] == ["0001-read"]
    running = processes.tapfs("run", "--resume", fork.id, env=env)
    assert running.wait(60) == 0, running.tail
    assert fork.result == [5, 10, 15]
    refused = processes.tapfs("fork", source, "--from", "times", "path=b.csv", env=env, separate_errors=True)
    assert refused.wait(60) == 1, refused.tail
    assert "step 0001-read would be copied, but was done with other arguments" in refused.errors
    assert len(control.ids()) == 2
    unknown = processes.tapfs("fork", source, "--from", "times", "bye=5", env=env, separate_errors=True)
    assert unknown.wait(60) == 1, unknown.tail
    assert "bye" in unknown.errors
    assert len(control.ids()) == 2
