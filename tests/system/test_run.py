"""`tapfs run`: an operation in the foreground, held and released from outside, interrupted and gone on with."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Self

import click

from support import Process, wait_for
from tapfs.bus.control import Control
from tapfs.bus.operation import Operation


def only_operation(site) -> Operation:
    control = Control(site.control)
    ids = wait_for(control.ids, 20, "no operation was made")
    return control.operation(ids[0])


def run(site, processes, *words: str | Path) -> Process:
    return processes.tapfs("run", *words, env=site.environment, separate_errors=True)


def test_a_run_shows_its_result_and_its_directory(site, processes, people, expected) -> None:
    path = people(20_000)
    process = run(site, processes, "tally", f"path={path}", "by=company", "of=gender")
    assert process.wait(60) == 0, process.tail
    operation = only_operation(site)
    assert operation.result == expected(path)
    text = process.output + process.errors
    assert operation.id in text
    assert "Weber, Klein" in text or "Company" in text
    assert "PAUSE" in text


def test_touch_holds_a_run_and_rm_lets_it_finish(site, processes, people, expected) -> None:
    path = people(60_000)
    process = run(site, processes, "tally", f"path={path}", "by=company", "of=gender", "pace=30000")
    operation = only_operation(site)
    wait_for(lambda: operation.view().step == "0002-count", 20)
    (operation.path / "PAUSE").touch()
    site.wait(operation, "paused")
    assert process.is_running
    (operation.path / "PAUSE").unlink()
    assert process.wait(60) == 0, process.tail
    assert operation.result == expected(path)


def test_ctrl_c_pauses_and_resume_goes_on_to_the_exact_result(site, processes, people, expected) -> None:
    path = people(60_000)
    process = run(site, processes, "tally", f"path={path}", "by=company", "of=gender", "pace=30000")
    operation = only_operation(site)
    wait_for(lambda: (operation.layout.steps / "0002-count.checkpoint.json").exists(), 20)
    process.interrupt()
    assert process.wait(20) == 130
    assert operation.state == "paused"
    assert f"run --resume {operation.id}" in process.output + process.errors
    again = run(site, processes, "--resume", operation.id)
    assert again.wait(60) == 0, again.tail
    assert operation.result == expected(path)
    assert operation.view().epoch == 2


def test_a_second_ctrl_c_leaves_at_once_and_nothing_is_lost(site, processes, expected) -> None:
    path = site.control.parent / "few.csv"
    path.write_text("company,gender\na,f\nb,m\nc,x\n")
    process = run(site, processes, "tally", f"path={path}", "by=company", "of=gender", "pace=1")
    operation = only_operation(site)
    wait_for(lambda: operation.view().step == "0002-count" and operation.state == "running", 20)
    process.interrupt()
    site.wait(operation, "pausing")
    process.interrupt()
    assert process.wait(5) == 130
    again = run(site, processes, "--resume", operation.id)
    assert again.wait(60) == 0, again.tail
    assert operation.result == expected(path)


def test_a_run_that_was_killed_is_gone_on_with_by_a_worker(site, processes, people, expected) -> None:
    path = people(60_000)
    process = run(site, processes, "tally", f"path={path}", "by=company", "of=gender", "pace=30000")
    operation = only_operation(site)
    wait_for(lambda: (operation.layout.steps / "0002-count.checkpoint.json").exists(), 20)
    process.kill(group=True)
    site.worker()
    site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)


def test_a_cancelled_run_ends_with_a_status_that_is_not_zero(site, processes) -> None:
    process = run(site, processes, "countdown", "steps=50", "seconds=0.2")
    operation = only_operation(site)
    site.wait(operation, "running")
    (operation.path / "CANCEL").touch()
    assert process.wait(20) == 1
    assert json.loads((operation.path / "run.json").read_text())["outcome"] == "cancelled"


def test_a_run_with_bad_arguments_names_all_faults_and_makes_nothing(site, processes) -> None:
    """B94, B95."""
    process = run(site, processes, "tally", "pth=x", "pace=fast")
    assert process.wait(20) == 1
    for part in ("'path'", "'by'", "'of'", "'pth'", "'pace'"):
        assert part in process.errors
    assert "Traceback" not in process.errors
    assert not (site.control / "operations").exists() or not list((site.control / "operations").iterdir())
    missing = run(site, processes, "tally", "path=nowhere.csv", "by=a", "of=b")
    assert missing.wait(20) == 1
    assert "nowhere.csv" in missing.errors


def test_a_held_run_keeps_its_place_in_sight(site, processes) -> None:
    """In a terminal: while it is held, how far it had come, and no pace."""
    path = site.control.parent / "few.csv"
    path.write_text("company,gender\n" + "a,f\n" * 1000)
    words = ("run", "tally", f"path={path}", "by=company", "of=gender", "pace=100")
    with Terminal(site, *words) as terminal:
        operation = only_operation(site)
        wait_for(lambda: "/s, " in terminal.text, 20, lambda: terminal.text)
        (operation.path / "PAUSE").touch()
        wait_for(lambda: terminal.last_line.startswith("paused"), 20, lambda: terminal.text)
        assert " %)" in terminal.last_line
        assert "/s" not in terminal.last_line
        (operation.path / "CANCEL").touch()
        wait_for(lambda: terminal.last_line.startswith("cancelled"), 20, lambda: terminal.text)
        assert " %)" in terminal.last_line
        assert "/s" not in terminal.last_line


class Terminal:
    """`tapfs` in a terminal of 100 columns."""

    def __init__(self, site, *words: str) -> None:
        self._parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environment = {**os.environ, **{key: value for key, value in site.environment.items() if value}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tapfs", *words],
            stdout=child,
            stderr=child,
            env={**environment, "TERM": "xterm"},
        )
        os.close(child)
        os.set_blocking(self._parent, False)
        self._output = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._parent)

    @property
    def text(self) -> str:
        """All that it wrote so far, without colours; what it redraws stands in lines of its own."""
        with suppress(BlockingIOError, OSError):
            while block := os.read(self._parent, 4096):
                self._output += block
        return click.unstyle(self._output.decode("utf-8", "replace")).replace("\r", "\n")

    @property
    def last_line(self) -> str:
        """The bar as it was drawn last."""
        return next((line for line in reversed(self.text.splitlines()) if "0002-count" in line), "")
