"""`tapfs start`, `run`, `operations`, and the processes that do the work; with the built-in app, in real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import Process, Processes, wait_for
from tapfs.bus.control import Control
from tapfs.bus.operation import Operation
from tapfs.bus.publication import Publication
from tapfs.cli.controls import is_supervised
from tapfs.cli.verbs.run import is_counts
from tapfs.cli.verbs.start import _Rings, _trouble_of_another
from tapfs.errors import PublishFailed

#: A task that never taps.
DEAF = """
import time
from celery import Celery
from tapfs import Bus

app = Celery("deaf", task_cls="tapfs.flow:TappableTask")
bus = Bus(app=app)

@app.task(name="deaf")
def deaf():
    time.sleep(60)

@bus.operation
def never_taps():
    return deaf.si()
"""


def _ended(process: Process, exit_code: int = 0) -> Process:
    assert process.wait(60) == exit_code, process.tail
    return process


def _only(folder: Path) -> Operation:
    control = Control(folder / "control")
    (operation_id,) = wait_for(control.ids, 30)
    return control.operation(operation_id)


def test_start_prints_the_id_alone_and_says_that_no_worker_runs(processes: Processes, tmp_path: Path) -> None:
    process = _ended(processes.tapfs("start", "countdown", "steps=2", separate_errors=True))
    operation = _only(tmp_path)
    assert process.output == f"{operation.id}\n"
    assert "no worker is seen here: 'tapfs up' starts one" in process.errors


def test_a_held_start_waits_for_resume(processes: Processes, tmp_path: Path) -> None:
    process = _ended(processes.tapfs("start", "countdown", "--paused", "--reason", "not yet", "--json"))
    answer = json.loads(process.output)
    operation = _only(tmp_path)
    assert answer == {
        "operation_id": operation.id,
        "success": True,
        "changed": True,
        "state": "paused",
        "message": "started, held",
    }
    assert operation.view().reason == "not yet"


@pytest.mark.parametrize("words", [["stepps=2"], ["steps=two"], ["steps=0"], ["tally"]])
def test_bad_arguments_start_nothing(processes: Processes, tmp_path: Path, words: list[str]) -> None:
    """B94."""
    process = _ended(processes.tapfs("start", "countdown", *words, separate_errors=True), 1)
    assert process.output == ""
    assert process.errors.startswith("tapfs: cannot ")
    assert not (tmp_path / "control" / "operations").exists() or not Control(tmp_path / "control").ids()


@pytest.mark.parametrize("verb", ["start", "run"])
def test_a_missing_input_file_is_told_and_starts_nothing(processes: Processes, tmp_path: Path, verb: str) -> None:
    """B95."""
    words = (verb, "tally", "path=nosuch.csv", "by=a", "of=b")
    process = _ended(processes.tapfs(*words, separate_errors=True), 1)
    assert "nosuch.csv" in process.errors
    assert process.output == ""
    assert not Control(tmp_path / "control").ids()


def test_a_broker_that_cannot_be_reached_leaves_the_operation_queued_and_says_so(
    processes: Processes, tmp_path: Path
) -> None:
    """B93."""
    unreachable = {"TAPFS_BROKER": "redis://127.0.0.1:1/0"}
    process = _ended(processes.tapfs("start", "countdown", env=unreachable, separate_errors=True))
    operation = _only(tmp_path)
    assert process.output == f"{operation.id}\n"
    assert f"tapfs: operation '{operation.id}' is kept, but not published yet: the broker did not take it" in (
        process.errors
    )
    assert operation.state == "queued"
    assert "waits: " in (operation.view().message or "")


def test_trouble_with_the_broker_is_told_also_where_a_supervisor_publishes_first(
    processes: Processes, tmp_path: Path
) -> None:
    """B93."""
    unreachable = {"TAPFS_BROKER": "redis://127.0.0.1:1/0"}
    supervisor = processes.tapfs("supervise", env=unreachable)
    wait_for(lambda: is_supervised(Control(tmp_path / "control")), 30)
    for _ in range(3):
        process = _ended(processes.tapfs("start", "countdown", env=unreachable, separate_errors=True))
        assert "is kept, but not published yet: the broker did not take it" in process.errors
        assert "publishes it by itself" in process.errors
    supervisor.terminate()
    assert supervisor.wait(30) == 0, supervisor.tail


def test_what_another_process_put_out_is_published_once_more_to_learn_of_trouble(bench: Any) -> None:
    """The message's second copy is dropped (law 4)."""
    operation = bench.start()
    bus = SimpleNamespace(control=bench.control)
    assert _trouble_of_another(operation, _Rings(bus)) is None
    assert [one.number for one in bench.published] == [1, 1]

    def refuse(publication: Publication) -> None:
        raise PublishFailed("the broker did not take it: it is away")

    bench.control.publisher = refuse
    assert _trouble_of_another(operation, _Rings(bus)) == "the broker did not take it: it is away"


def test_a_step_that_is_claimed_is_not_published_once_more(bench: Any) -> None:
    operation = bench.start()
    bench.claim(operation)
    assert _trouble_of_another(operation, _Rings(SimpleNamespace(control=bench.control))) is None
    assert len(bench.published) == 1


@pytest.mark.parametrize("url", ["nix://:s3cret@a", "redis://:s3cret@x:port"])
def test_a_broker_that_cannot_be_used_is_named_without_its_password(
    processes: Processes, tmp_path: Path, url: str
) -> None:
    for verb in ("up", "worker"):
        process = _ended(processes.tapfs(verb, env={"TAPFS_BROKER": url}, separate_errors=True), 1)
        assert process.errors.startswith("tapfs: cannot use the broker '")
        assert "\nhint: " in process.errors
        assert "s3cret" not in process.tail
        assert "Traceback" not in process.tail
    process = _ended(processes.tapfs("start", "countdown", env={"TAPFS_BROKER": url}, separate_errors=True))
    assert f"'{_only(tmp_path).id}' is kept, but not published yet: cannot use the broker '" in process.errors
    assert "publishes it by itself" in process.errors
    assert "s3cret" not in process.tail


@pytest.mark.parametrize("words", [["start", "countdown"], ["run", "countdown"], ["worker"], ["supervise"]])
def test_a_newer_format_is_left_alone(processes: Processes, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "format").write_text("tapfs 9\n")
    process = _ended(processes.tapfs(*words, separate_errors=True), 1)
    assert "its format is 'tapfs 9'" in process.errors
    assert os.listdir(tmp_path / "control") == ["format"]


def test_an_app_that_holds_its_operations_elsewhere_is_refused(processes: Processes, tmp_path: Path) -> None:
    code = "from celery import Celery\nfrom tapfs import Bus\n"
    code += "app = Celery(task_cls='tapfs.flow:TappableTask')\nbus = Bus('theirs', app=app)\n"
    (tmp_path / "fixed.py").write_text(code)
    process = _ended(processes.tapfs("--control", "ours", "--app", "fixed", "start", "x", separate_errors=True), 1)
    assert "has its control directory at" in process.errors


def test_operations_tell_arguments_types_and_defaults(processes: Processes) -> None:
    output = _ended(processes.tapfs("operations")).output
    assert "tapfs start countdown [steps=INTEGER] [seconds=NUMBER]" in output
    document = json.loads(_ended(processes.tapfs("operations", "--json")).output)
    (tally,) = (one for one in document if one["operation"] == "tally")
    by_name = {one["name"]: one for one in tally["parameters"]}
    assert (by_name["path"]["type"], by_name["path"]["required"]) == ("path", True)
    assert (by_name["pace"]["default"], by_name["pace"]["is_optional"]) == (None, True)


def test_run_shows_the_largest_counts_with_their_split(processes: Processes, tmp_path: Path) -> None:
    rows = [f"{place},{kind}" for place in range(12) for kind in "ab" for _ in range(place + (kind == "a"))]
    (tmp_path / "rows.csv").write_text("\n".join(["place,kind", *rows]) + "\n")
    process = _ended(processes.tapfs("run", "tally", "path=rows.csv", "by=place", "of=kind", separate_errors=True))
    lines = [line.split() for line in process.output.splitlines()]
    assert lines[:3] == [["TOTAL", "a", "b"], ["11", "23", "12", "11"], ["10", "21", "11", "10"]]
    assert len(lines) == 11
    operation = _only(tmp_path)
    marker = f"control/operations/{operation.id}/PAUSE"
    for text in (f"touch {marker}", f"rm {marker}", "2 more", f"{operation.id} succeeded in "):
        assert text in process.errors


def test_run_goes_on_after_ctrl_c_where_it_was(processes: Processes, tmp_path: Path) -> None:
    process = processes.tapfs("run", "countdown", "steps=3", "seconds=0.5", separate_errors=True)
    operation = _only(tmp_path)
    wait_for(lambda: operation.state == "running" and operation.view().steps_done >= 1, 30)
    process.interrupt()
    _ended(process, 130)
    assert f"paused; go on with: tapfs run --resume {operation.id}" in process.errors
    assert "Traceback" not in process.errors
    assert operation.state == "paused"
    done = sorted(os.listdir(operation.layout.steps))
    resumed = _ended(processes.tapfs("run", "--resume", operation.id[-6:], separate_errors=True))
    assert resumed.output == "0\n"
    assert set(done) - {name for name in done if "checkpoint" in name} <= set(os.listdir(operation.layout.steps))
    assert operation.state == "succeeded"


def test_a_second_ctrl_c_leaves_at_once(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    process = processes.tapfs("--app", "deaf", "run", "never_taps", separate_errors=True)
    operation = _only(tmp_path)
    wait_for(lambda: operation.state == "running", 30)
    process.interrupt()
    wait_for(lambda: operation.state == "pausing", 30)
    process.wait_for_output("pausing: stops at its next tap; Ctrl-C again leaves at once\n")
    process.interrupt()
    _ended(process, 130)
    assert f"tapfs: left at once; go on with: tapfs run --resume {operation.id}\n" in process.errors
    assert "Traceback" not in process.errors
    assert "\x1b" not in process.errors


def test_run_of_what_fails_names_error_step_and_file(processes: Processes, tmp_path: Path) -> None:
    code = (
        "from celery import Celery\nfrom tapfs import Bus\n"
        "app = Celery('broken', task_cls='tapfs.flow:TappableTask')\nbus = Bus(app=app)\n"
        "@app.task(name='broken')\ndef broken():\n    raise ValueError('no rows')\n"
        "@bus.operation\ndef breaks():\n    return broken.si()\n"
    )
    (tmp_path / "broken.py").write_text(code)
    process = _ended(processes.tapfs("--app", "broken:app", "run", "breaks", separate_errors=True), 1)
    operation = _only(tmp_path)
    assert f"tapfs: operation '{operation.id}' failed in step 0001-broken after " in process.errors
    assert "ValueError: no rows" in process.errors
    assert f"'control/operations/{operation.id}/error.json' has the traceback" in process.errors
    assert process.output == ""


#: Tasks that leave as if they were the program.
LEAVES = """
from celery import Celery
from tapfs import Bus

app = Celery("leaves", task_cls="tapfs.flow:TappableTask")
bus = Bus(app=app)

@app.task(name="leaves")
def leaves(how):
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[how]

@bus.operation
def leaving(how: str):
    return leaves.si(how)
"""


@pytest.mark.parametrize(("how", "told"), [("exit", "SystemExit(3)"), ("interrupt", "KeyboardInterrupt()")])
def test_a_task_that_leaves_like_a_program_is_told_and_is_a_failure_of_run(
    processes: Processes, tmp_path: Path, how: str, told: str
) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES)
    process = _ended(processes.tapfs("--app", "leaves", "run", "leaving", f"how={how}", separate_errors=True), 1)
    operation = _only(tmp_path)
    assert f"operation '{operation.id}' was left in step 0001-leaves: the task left with {told}\n" in process.errors
    assert f"'tapfs run --resume {operation.id}' tries the step again" in process.errors
    assert operation.state == "interrupted"


def test_run_in_a_terminal_draws_a_bar(tmp_path: Path) -> None:
    import pty

    parent, child = pty.openpty()
    words = [sys.executable, "-m", "tapfs", "run", "countdown", "steps=1", "seconds=0.5"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"}) as run:
        os.close(child)
        output = _all_of(parent)
    assert run.returncode == 0
    assert "━" in output
    assert "succeeded" in output


def test_a_second_ctrl_c_leaves_the_terminal_with_a_cursor(tmp_path: Path) -> None:
    import pty

    (tmp_path / "deaf.py").write_text(DEAF)
    parent, child = pty.openpty()
    words = [sys.executable, "-m", "tapfs", "--app", "deaf", "run", "never_taps"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"}) as run:
        os.close(child)
        operation = _only(tmp_path)
        for state in ("running", "pausing"):
            operation.wait(state, 30)
            run.send_signal(signal.SIGINT)
        output = _all_of(parent)
    assert run.returncode == 130
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "\r\ntapfs: left at once; go on with: tapfs run --resume" in output


def _all_of(terminal: int) -> str:
    output = b""
    while True:
        try:
            block = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            block = b""
        if not block:
            os.close(terminal)
            return output.decode("utf-8", "replace")
        output += block


@pytest.mark.parametrize("verb", ["up", "worker"])
def test_a_worker_does_what_was_started_and_resumed(processes: Processes, tmp_path: Path, verb: str) -> None:
    worker = processes.tapfs(verb, "--pool", "solo")
    operation_id = _ended(processes.tapfs("start", "countdown", "steps=2", "seconds=0.1", "--paused")).output.strip()
    operation = Control(tmp_path / "control").operation(operation_id)
    _ended(processes.tapfs("resume", operation_id))
    operation.wait("succeeded", 60)
    worker.terminate()
    assert worker.wait(30) == 0, worker.tail


def test_a_supervisor_ends_when_told(processes: Processes, tmp_path: Path) -> None:
    supervisor = processes.tapfs("supervise")
    wait_for(lambda: (tmp_path / "control" / "supervisor.lock").exists(), 30)
    supervisor.terminate()
    assert supervisor.wait(20) == 0, supervisor.tail


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"Acme": {"f": 1, "m": 2}}, True),
        ({"Acme": {}}, True),
        ({}, False),
        ({"Acme": {"f": True}}, False),
        ({"Acme": {"f": 1.5}}, False),
        ({"Acme": 1}, False),
        ([1], False),
        (None, False),
    ],
)
def test_only_counts_of_counts_are_shown_as_a_table(result: Any, expected: bool) -> None:
    assert is_counts(result) is expected
