"""Faults at the file system calls of a process, one at a time, by `strace -e inject`.

A child is forked from this process, which has all it needs imported, and waits. strace is attached to it; then it acts.
So the calls that are counted are those of the action, from its first to its last, and a point costs a few hundredths of
a second. The child waits and reports with calls that are not traced. Calls that wait for the disk are made, and
answered at once: what they are for only a power cut could show.

A point is the nth call of one name (so strace counts), and what befalls the process there: it is killed before the
call is done, or the call fails. Which points there are is found by a run without faults. Where an action makes a call
more or less than it did then, a point may never come: it counts as not reached, and proves nothing.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path

from tapfs.bus.fields import Json
from tapfs.errors import TapfsError, text_of

#: Every call that has to do with files; what a system does not have is left out by the question mark.
TRACED = (
    "open openat openat2 creat close read pread64 readv preadv write pwrite64 writev pwritev lseek sendfile "
    "copy_file_range fsync fdatasync sync_file_range syncfs ftruncate truncate fallocate flock fcntl ioctl "
    "dup dup2 dup3 rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir "
    "mknod mknodat stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat "
    "getdents getdents64 chmod fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat futimesat "
    "chdir fchdir getcwd umask mmap"
)
#: Calls that find a full disk; an open only when it makes the file.
_NEED_ROOM = re.compile(
    r"(open|openat|creat)\(.*O_CREAT|(write|pwrite64|writev|fsync|fdatasync|rename\w*|link|linkat|symlink\w*|mkdir\w*)\("
)
#: Calls that find a broken disk.
_NEED_DISK = re.compile(
    r"(open|openat|creat|read|pread64|write|pwrite64|writev|fsync|fdatasync|rename\w*|link|linkat|unlink\w*|rmdir|mkdir\w*"
    r"|stat|lstat|fstat|newfstatat|statx|getdents\w*)\("
)
_LINE = re.compile(r"(\w+)\(")
#: Seconds that any child may take; only one that hangs needs more.
_LONG_S = 60.0
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1
#: The real ones: the tests take them from this process, which only judges, but not from its children.
_SYNC = {name: getattr(os, name) for name in ("fsync", "fdatasync")}

#: Tells the parent something, from the child.
Tell = Callable[[Json], None]


class Fault(StrEnum):
    """What befalls a process at a call."""

    KILL = "SIGKILL"
    NO_ROOM = "ENOSPC"
    FULL = "ENOSPC for good"
    BROKEN = "EIO"

    @property
    def error(self) -> str:
        """The error's name, of those that are errors."""
        return self.value.partition(" ")[0]

    def injection(self, number: int) -> str:
        """The words for strace: at which call of a name, and what."""
        if self is Fault.KILL:
            return f"signal=KILL:when={number}"
        return f"error={self.error}:when={number}" + ("+" if self is Fault.FULL else "")

    def can_befall(self, call: Call) -> bool:
        """Say whether a call can meet with this."""
        if self is Fault.KILL:
            return True
        if self is Fault.FULL and call.name.startswith(("open", "creat")):
            return False  # all that follow would fail, also those that only read
        return bool((_NEED_DISK if self is Fault.BROKEN else _NEED_ROOM).match(call.line))


@dataclass(frozen=True)
class Call:
    """A call that an action makes.

    Attributes:
        name: as strace has it.
        number: which of that name, from 1.
        line: strace's line.
    """

    name: str
    number: int
    line: str


@dataclass(frozen=True)
class Outcome:
    """What became of the child.

    Attributes:
        told: what it told while it acted, oldest first.
        done: what the action returned; None where it did not come to that.
        error: what a person would read, when it raised what tapfs may raise.
        hint: what it says beside that.
        crash: the traceback, when it raised anything else.
        was_killed: whether it was killed by the fault.
        calls: what strace saw; with a fault, only those of that name.
        was_reached: whether the fault befell it.
        leaked: how many more files it has open than before.
    """

    told: list[Json]
    done: Json = None
    error: str | None = None
    hint: str | None = None
    crash: str | None = None
    was_killed: bool = False
    calls: list[Call] = field(default_factory=list)
    was_reached: bool = False
    leaked: int = 0


class Subject:
    """A child that waits to act, is traced, and lives on after an error until `end`, as a worker does.

    Args:
        get_ready: called in the child before it is traced.
        act: what is traced. Its value, which must be JSON, is told.
    """

    def __init__(self, get_ready: Callable[[Tell], None], act: Callable[[], Json]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_LONG_S)
        self._tracer: subprocess.Popen[str] | None = None
        self._told: list[Json] = []
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _live(other, get_ready, act)
        other.close()
        first = self._receive()
        assert first == {"ready": True}, f"the child could not get ready: {first}"

    def run(self, log_path: Path, call: Call | None = None, fault: Fault | None = None) -> Outcome:
        """Have it act, with a fault at a call or with none; returns when it has reported, or is dead."""
        self._trace(log_path, call, fault)
        before = self._open_files()
        self._socket.send(b"go")
        report = self._receive()
        while report is not None and "told" in report:
            self._told.append(report["told"])
            report = self._receive()
        if report is None:
            status = self._reap()
            self._stop_tracing()
            assert status == -signal.SIGKILL, f"the child ended without a word, status {status}"
        log = log_path.read_text(encoding="utf-8", errors="replace")
        was_killed = report is None
        return Outcome(
            told=self._told,
            **(report or {}),
            was_killed=was_killed,
            calls=_calls_of(log),
            was_reached=was_killed or _has_failed(log, fault),
            leaked=0 if was_killed else self._open_files() - before,
        )

    def end(self) -> None:
        """Let it go."""
        self._socket.close()
        if self.pid:
            self._reap()
        self._stop_tracing()

    def _open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _receive(self) -> dict[str, Json] | None:
        """The child's next word; None when it is dead."""
        try:
            word = self._socket.recv(1 << 20)
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"the child hangs: no word for {_LONG_S:g} s") from None
        except ConnectionResetError:
            return None
        return json.loads(word) if word else None

    def _trace(self, log_path: Path, call: Call | None, fault: Fault | None) -> None:
        command = ["strace", "-o", str(log_path), "-p", str(self.pid), "-e", "signal=none"]
        command += ["-e", "inject=?fsync,?fdatasync:retval=0"]
        if call is None or fault is None:
            command += ["-e", "trace=" + ",".join("?" + name for name in TRACED.split())]
        else:
            command += ["-e", f"trace=?fsync,?fdatasync,{call.name}"]
            command += ["-e", f"inject={call.name}:{fault.injection(call.number)}"]
        self._tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._tracer.stderr is not None
        # It says so when the child can make no call any more that is not seen; its TracerPid is set a little earlier.
        said = self._tracer.stderr.readline()
        if "attached" not in said:
            raise CannotTrace(said + self._tracer.stderr.read())

    def _stop_tracing(self) -> None:
        if self._tracer is not None and self._tracer.stderr is not None:
            self._tracer.wait(_LONG_S)
            self._tracer.stderr.close()
            self._tracer = None

    def _reap(self) -> int:
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class CannotTrace(Exception):
    """strace could not be attached."""


def _live(mouth: socket.socket, get_ready: Callable[[Tell], None], act: Callable[[], Json]) -> None:
    """Be the child: get ready, wait, act, report, wait for the end. Never returns."""

    def say(**word: Json) -> None:
        mouth.send(json.dumps(word).encode())

    try:
        gc.disable()  # it would close files at some other call each time
        for name, function in _SYNC.items():
            setattr(os, name, function)
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
        get_ready(lambda told: say(told=told))
        say(ready=True)
        _wait(mouth)
        mouth.recv(16)
        try:
            done = act()
        except (TapfsError, OSError) as error:
            say(error=text_of(error), hint=getattr(error, "hint", None))
        except BaseException:
            say(crash=traceback.format_exc())
        else:
            say(done=done)
        _wait(mouth)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _wait(mouth: socket.socket) -> None:
    poll = select.poll()
    poll.register(mouth, select.POLLIN)
    poll.poll()


def _calls_of(log: str) -> list[Call]:
    counts: dict[str, int] = {}
    calls = []
    for line in log.splitlines():
        if found := _LINE.match(line):
            name = found[1]
            counts[name] = counts.get(name, 0) + 1
            calls.append(Call(name, counts[name], line))
    return calls


def _has_failed(log: str, fault: Fault | None) -> bool:
    """Say whether a call failed by the fault: strace marks its own answers, also those about the disk."""
    return fault is not None and any(f" {fault.error} " in line and "(INJECTED)" in line for line in log.splitlines())


@cache
def why_not() -> str | None:
    """Say why faults cannot be injected here; None where they can."""
    if shutil.which("strace") is None:
        return "inject faults: there is no strace"
    subject = Subject(lambda tell: None, lambda: os.stat("/").st_mode)
    try:
        outcome = subject.run(Path(os.devnull))
    except CannotTrace as error:
        return f"inject faults: {str(error).strip() or 'strace says nothing'}"
    finally:
        subject.end()
    assert outcome.done
    return None
