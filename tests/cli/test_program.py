"""The program: errors, exit codes, lazy imports."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from support import Processes, wait_for
from tapfs.bus import files
from tapfs.cli.program import VERBS, program

Tapfs = Callable[..., Result]

#: Imports that would make looking at operations slow.
HEAVY = {"celery", "kombu", "watchdog", "asyncio", "redis"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_says_of_each_verb_what_the_verb_says_of_itself(verb: str) -> None:
    command = program.get_command(click.Context(program), verb)
    assert command is not None
    assert command.name == verb
    assert (command.help or "").splitlines()[0] == VERBS[verb][1]


@pytest.mark.parametrize("words", [("nosuch",), ("list", "--nosuch"), ("list", "--limit", "0"), ("show",)])
def test_a_command_that_is_not_understood_ends_with_2(tapfs: Tapfs, words: tuple[str, ...]) -> None:
    result = tapfs(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: tapfs" in result.stderr


def test_with_json_an_error_is_json_on_stderr(bench: Any, tapfs: Tapfs) -> None:
    bench.start()
    result = tapfs("show", "nosuch", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error["message"].startswith("no operation 'nosuch' in ")
    assert error["hint"].startswith("there are: ")


@pytest.mark.parametrize(
    "words",
    [("list",), ("show", "x"), ("pause", "x"), ("cancel", "--all"), ("wait", "x"), ("verify",), ("journal", "x")],
)
def test_a_newer_format_is_refused_and_left_alone(tapfs: Tapfs, tmp_path: Path, words: tuple[str, ...]) -> None:
    control = tmp_path / "control"
    control.mkdir()
    (control / "format").write_text("tapfs 9\n")
    result = tapfs(*words)
    assert result.exit_code == 1
    assert "its format is 'tapfs 9', this tapfs knows 'tapfs 1'" in result.stderr
    assert "hint: a newer tapfs wrote it" in result.stderr
    assert os.listdir(control) == ["format"]


@pytest.mark.parametrize("words", [("list",), ("verify",), ("pause", "x"), ("start", "countdown")])
def test_a_control_directory_that_is_a_file_is_a_clean_error(
    tapfs: Tapfs, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "control").write_text("")
    result = tapfs(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("tapfs: cannot ")
    assert "it is no folder" in result.stderr


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_told_in_words(
    bench: Any, tapfs: Tapfs, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    operation = bench.start()
    (operation.path / "state.json").write_bytes(b"")

    def refuse(*_: object) -> str:
        raise OSError(code, os.strerror(code), str(operation.path))

    monkeypatch.setattr(files, "write_temporary", refuse)
    result = tapfs("pause", operation.id)
    assert result.exit_code == 1
    reason = f"cannot use '{operation.path}': {os.strerror(code).lower()}"
    assert result.stderr.startswith(f"tapfs: cannot pause operation '{operation.id}': {reason}\nhint: ")


def test_a_system_error_of_the_program_has_a_hint() -> None:
    @click.command("fill")
    def fill() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "control")

    group = type(program)("tapfs", commands={"fill": fill})
    group.get_command = lambda ctx, name: fill  # type: ignore[method-assign]
    result = CliRunner().invoke(group, ["fill"])
    assert result.exit_code == 1
    assert result.stderr == (
        "tapfs: cannot use 'control': no space left on device\n"
        "hint: the disk is full: make room and try again; what was there is unchanged\n"
    )


def test_options_name_the_control_directory(bench: Any, tapfs: Tapfs, tmp_path: Path) -> None:
    operation = bench.start()
    (tmp_path / "control").rename(tmp_path / "elsewhere")
    assert operation.id in tapfs("--control", "elsewhere", "list").stdout
    assert "has none" in tapfs("--control", "nowhere", "show", "x").stderr


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["show", "tally"], ["journal", "tally"], ["verify"], ["pause", "tally"]]
)
def test_looking_and_asking_import_no_celery(bench: Any, processes: Processes, words: list[str]) -> None:
    bench.start()
    code = (
        "import sys\nfrom tapfs.cli.program import program\n"
        f"program.main({words!r}, standalone_mode=False)\n"
        "print('IMPORTED', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    process = processes.python("-c", code)
    assert process.wait() == 0, process.tail
    imported = set(process.output.rpartition("IMPORTED")[2].split())
    assert not imported & (HEAVY | ({"filelock"} if words[0] != "pause" else set()) | {"rich"})


def test_nothing_a_person_can_cause_gives_a_traceback(bench: Any, processes: Processes) -> None:
    operation = bench.start()
    for words, exit_code in (
        (("show", "nosuch"), 1),
        (("--control", "/dev/null", "list"), 1),
        (("--app", "nosuch.module", "operations"), 1),
        (("--app", "json:dumps", "operations"), 1),
        (("start", "nosuch"), 1),
        (("retry", operation.id), 1),
        (("rewind", "nosuch", "--to", "0001"), 1),
        (("fork", operation.id, "--from", "0002"), 1),
        (("fork", operation.id, "--from", "0001", "no=thing"), 1),
        (("cancel", operation.id, "--step", "0001"), 1),
        (("start", "tally", "path=nosuch.csv"), 1),
        (("run", "tally", "path=nosuch.csv", "by=a", "of=b"), 1),
        (("--control", "/proc/nosuch", "start", "countdown"), 1),
        (("wait", operation.id, "--timeout", "0"), 3),
        (("pause",), 2),
    ):
        process = processes.tapfs(*words, separate_errors=True)
        assert process.wait() == exit_code, process.tail
        assert "Traceback" not in process.errors
        assert process.errors.startswith(("tapfs: ", "Usage: "))
        assert process.output == ""


def test_a_reader_that_leaves_ends_the_program_without_a_word(bench: Any, processes: Processes) -> None:
    for _ in range(3):
        bench.start()
    process = processes("sh", "-c", f"{sys.executable} -m tapfs list | true", separate_errors=True)
    process.wait()
    assert (process.output, process.errors) == ("", "")


def test_ctrl_c_ends_with_130_and_no_traceback(bench: Any, processes: Processes) -> None:
    operation = bench.start()
    bench.claim(operation)
    process = processes.tapfs("pause", operation.id, "--wait", separate_errors=True)
    wait_for(lambda: operation.state == "pausing")
    process.interrupt()
    assert process.wait() == 130
    assert process.errors.strip() == "tapfs: interrupted"


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        ("list", 0),
        ("show nosuch", 1),
        ("operations", 0),
        ("start countdown", 0),
        ("run countdown steps=1 seconds=0", 0),
        ("run countdown steps=no", 1),
        ("verify", 0),
        ("pause", 2),
        ("--help", 0),
    ],
)
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(
    bench: Any, processes: Processes, words: str, exit_code: int, closed: str
) -> None:
    bench.start()
    process = processes("bash", "-c", f"exec {sys.executable} -m tapfs {words} {closed}")
    assert process.wait(60) == exit_code, process.tail
    assert "Traceback" not in process.tail
