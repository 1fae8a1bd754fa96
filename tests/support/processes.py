"""Real processes for the tests: each in a session of its own, its output in a file, none left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support.waiting import wait_for

TAIL_CHARACTERS = 4000


class Process:
    """A running program. Signals go to it alone, or with `group=True` to all that it started too, as Ctrl-C does.

    Its stdout and stderr are both in `output_path`; with `error_path`, stderr is there.
    """

    def __init__(
        self,
        *arguments: str | Path,
        name: str,
        output_path: Path,
        error_path: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            arguments: The program and its arguments.
            name: What to call it in messages.
            output_path: Made anew, and kept.
            error_path: For stderr alone; None puts it with stdout.
            env: Added to this process's environment; None as a value takes a variable away.
            cwd: None is this process's own.
        """
        self.name = name
        self.output_path = output_path
        self.error_path = error_path
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        with output_path.open("wb") as output, (error_path or Path(os.devnull)).open("wb") as error:
            self._popen = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error if error_path else subprocess.STDOUT,
                env={key: value for key, value in environment.items() if value is not None},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, minus the signal's number when one ended it; None while it runs or is stopped."""
        return self._popen.poll()

    @property
    def is_running(self) -> bool:
        return self.returncode is None

    @property
    def output(self) -> str:
        """All it has written so far."""
        return self.output_path.read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        """All it has written to stderr so far, when that has a file of its own."""
        return self.error_path.read_text(encoding="utf-8", errors="replace") if self.error_path else ""

    @property
    def tail(self) -> str:
        """The end of its output, for a message."""
        return (self.output + self.errors)[-TAIL_CHARACTERS:]

    def children(self) -> list[int]:
        """Return the process ids of its living children, a pool's processes for instance, in ascending order."""
        return sorted(pid for pid, parent, state in _process_table() if parent == self.pid and state != "Z")

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal; nothing happens when it has ended. A group may outlive its first process."""
        if not group:
            self._popen.send_signal(number)
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def interrupt(self, *, group: bool = False) -> None:
        """Send SIGINT; with `group=True` what Ctrl-C in a terminal does."""
        self.send(signal.SIGINT, group=group)

    def terminate(self, *, group: bool = False) -> None:
        """Send SIGTERM."""
        self.send(signal.SIGTERM, group=group)

    def kill(self, *, group: bool = False) -> None:
        """Send SIGKILL and wait until it is gone."""
        self.send(signal.SIGKILL, group=group)
        self._popen.wait()

    def stop(self, *, group: bool = False) -> None:
        """Freeze it with SIGSTOP, and wait until it is frozen."""
        self.send(signal.SIGSTOP, group=group)
        frozen = f"{self.name} was not stopped"
        wait_for(lambda: any(pid == self.pid and state == "T" for pid, _, state in _process_table()), message=frozen)

    def cont(self, *, group: bool = False) -> None:
        """Let it go on after `stop`."""
        self.send(signal.SIGCONT, group=group)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait until it ends and return its exit status.

        Raises:
            AssertionError: It still runs after `timeout_s` seconds; its last output is in the message.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout_s:g} s; its output:\n{self.tail}") from None

    def wait_for_output(self, text: str, timeout_s: float = 30.0) -> str:
        """Wait until it has written `text` and return all its output.

        Raises:
            AssertionError: It did not within `timeout_s` seconds, or ended without it.
        """

        def written() -> str:
            has_ended = not self.is_running  # asked first: what it wrote last is then in the file
            output = self.output + self.errors
            if has_ended and text not in output:
                raise AssertionError(f"{self.name} ended without writing {text!r}; its output:\n{self.tail}")
            return output if text in output else ""

        return wait_for(written, timeout_s, lambda: f"{self.name} has not written {text!r}; its output:\n{self.tail}")


class Processes:
    """Starts processes that `close` ends. Calling it runs any program; `python` and `tapfs` run those.

    They start in `directory`, so that a default such as `control` lands there and not in the project.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Process] = []

    def __call__(
        self,
        *arguments: str | Path,
        name: str | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        separate_errors: bool = False,
    ) -> Process:
        """Start a program; its output goes to `<name>-<number>.log`, with `separate_errors` stderr to `.err`."""
        name = name or Path(arguments[0]).name
        stem = f"{name}-{len(self.started) + 1}"
        process = Process(
            *arguments,
            name=stem,
            output_path=self.directory / f"{stem}.log",
            error_path=self.directory / f"{stem}.err" if separate_errors else None,
            env=env,
            cwd=cwd or self.directory,
        )
        self.started.append(process)
        return process

    def python(
        self,
        *arguments: str | Path,
        name: str = "python",
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        separate_errors: bool = False,
    ) -> Process:
        """Start this Python with these arguments."""
        return self(sys.executable, *arguments, name=name, env=env, cwd=cwd, separate_errors=separate_errors)

    def tapfs(
        self,
        *arguments: str | Path,
        name: str = "tapfs",
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        separate_errors: bool = False,
    ) -> Process:
        """Start `tapfs` with these arguments."""
        return self.python("-m", "tapfs", *arguments, name=name, env=env, cwd=cwd, separate_errors=separate_errors)

    def close(self) -> None:
        """Kill all that was started, the last first, each with what it started in its turn."""
        for process in reversed(self.started):
            process.kill(group=True)

    def report(self) -> list[tuple[str, str]]:
        """Return a title and the end of the output for each process."""
        return [
            (f"output of {process.name} (pid {process.pid}, exit status {process.returncode})", process.tail)
            for process in self.started
        ]


def _process_table() -> list[tuple[int, int, str]]:
    """Return process id, parent's id and state (as in proc(5)) of every process."""
    table = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = status.read_text().split(" (", 1)
        except OSError:  # it has just ended
            continue
        state, parent = rest.rpartition(")")[2].split()[:2]
        table.append((int(pid), int(parent), state))
    return table
