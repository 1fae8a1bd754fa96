"""The fleet: workers, supervisors and Redis, and a keeper that starts again whatever has died, as systemd would."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support import Process, Processes, RedisServer

TESTS = Path(__file__).parents[1]
#: Seconds from a death to the new start, and between any two starts: what dies at once is not started in a storm.
RESTART_DELAY_S = 0.3
BETWEEN_STARTS_S = 0.3
#: Seconds from being ready until a child may be killed.
SETTLE_S = 0.5


@dataclass
class Slot:
    """A place in the fleet, with whichever process fills it at the time.

    Attributes:
        name: of the place, e.g. `worker-2`.
        start: starts a process.
        process: the one that was started last.
        died_at: when it was found dead, by the monotonic clock; None while it lives.
        ready_at: when it was first seen to be ready; None until then.
    """

    name: str
    start: Callable[[], Process]
    process: Process
    died_at: float | None = None
    ready_at: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.process.is_running

    def is_settled(self, word: str) -> bool:
        """Whether it has said that it is ready, some moments ago: Celery gives up when a child dies before that."""
        if self.ready_at is None and self.is_alive and word in self.process.output:
            self.ready_at = time.monotonic()
        return self.is_alive and self.ready_at is not None and time.monotonic() > self.ready_at + SETTLE_S


@dataclass
class Frozen:
    """A time for which a process was stopped, by the wall clock; `until` is None while it still is."""

    pid: int
    since: float
    until: float | None = None


@dataclass
class Fleet:
    """All processes of a run.

    Attributes:
        folder: where the outputs go, and `control/` and `data/` are.
        redis: the broker's server; None for the embedded broker.
        frozen: every stop so far.
        restarts: how often something was started again, by kind.
    """

    folder: Path
    redis: RedisServer | None
    environment: Mapping[str, str | None]
    frozen: list[Frozen] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._processes = Processes(self.folder)
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self.workers: list[Slot] = []
        self.supervisors: list[Slot] = []
        self.redis_down_until: float | None = None

    def start(self, workers: int, children: int, supervisors: int) -> None:
        """Start everything and wait until it is ready."""
        self.workers = [self._slot(f"worker-{n}", self._worker(f"w{n}", children)) for n in range(1, workers + 1)]
        self.supervisors = [self._slot(f"supervisor-{n}", self._supervisor) for n in range(1, supervisors + 1)]
        for slot in self.workers:
            slot.process.wait_for_output("ready.", 60)
        for slot in self.supervisors:
            slot.process.wait_for_output("supervising", 60)
        self._keeper.start()

    @property
    def slots(self) -> list[Slot]:
        return [*self.workers, *self.supervisors]

    def tapfs(self, *words: str | Path) -> Process:
        """Start a command of the command line, without the app: it asks, and others act."""
        return self._processes.tapfs(*words, name="verb", env={**self.environment, "TAPFS_APP": None})

    def kill_redis(self, down_s: float) -> None:
        """Kill Redis with all it holds; the keeper starts it again after so many seconds."""
        if self.redis is not None:
            self.redis_down_until = time.monotonic() + down_s
            self.redis.stop()

    def freeze(self, pid: int) -> bool:
        """Stop a process; says whether it was there."""
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        self.frozen.append(Frozen(pid, time.time()))
        return True

    def thaw(self, pid: int) -> None:
        """Let a process go on that `freeze` has stopped."""
        for stop in self.frozen:
            if stop.pid == pid and stop.until is None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                stop.until = time.time()

    def thaw_all(self) -> None:
        """Let everything go on."""
        for stop in [stop for stop in self.frozen if stop.until is None]:
            self.thaw(stop.pid)

    def is_frozen(self, pid: int) -> bool:
        """Whether a process is stopped."""
        return any(stop.pid == pid and stop.until is None for stop in self.frozen)

    def is_complete(self) -> bool:
        """Whether everything runs."""
        redis_runs = self.redis is None or (self.redis_down_until is None and self.redis.process.is_running)
        return redis_runs and all(slot.is_alive for slot in self.slots)

    def outputs(self) -> list[Path]:
        """The files with what the processes have written."""
        return [process.output_path for process in self._processes.started]

    def close(self) -> None:
        """End everything at once."""
        self._ending.set()
        if self._keeper.is_alive():
            self._keeper.join(60)
        self._processes.close()

    def _slot(self, name: str, start: Callable[[], Process]) -> Slot:
        return Slot(name, start, start())

    def _worker(self, name: str, children: int) -> Callable[[], Process]:
        options = ("--loglevel=INFO", f"--hostname={name}@%h", "--concurrency", str(children), "--without-mingle")
        return lambda: self._processes.python(
            "-m", "celery", "-A", "chaos.app", "worker", *options, name=name, env=self.environment
        )

    def _supervisor(self) -> Process:
        return self._processes.python("-m", "tapfs", "supervise", name="supervisor", env=self.environment)

    def _keep(self) -> None:
        """Start again what has died, one at a time."""
        while not self._ending.wait(0.05):
            now = time.monotonic()
            if self.redis is not None and self.redis_down_until is not None and now >= self.redis_down_until:
                self.redis.start()
                self.redis_down_until = None
                self._count("redis")
            for slot in self.slots:
                if slot.is_alive:
                    continue
                slot.died_at = slot.died_at or now
                if now - slot.died_at < RESTART_DELAY_S:
                    continue
                slot.process.kill(group=True)  # what it left behind, as systemd ends a unit's whole group
                slot.process, slot.died_at, slot.ready_at = slot.start(), None, None
                self._count(slot.name.partition("-")[0])
                self._ending.wait(BETWEEN_STARTS_S)

    def _count(self, kind: str) -> None:
        self.restarts[kind] = self.restarts.get(kind, 0) + 1


def environment_for(
    folder: Path, app: str, broker: str | None, first_delay_s: float, seed: int
) -> dict[str, str | None]:
    """What every process of a run finds in its environment."""
    paths = [str(TESTS), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "TAPFS_CONTROL": str(folder / "control"),
        "TAPFS_DATA": str(folder / "data"),
        "TAPFS_BROKER": broker,
        "TAPFS_APP": app,
        "CHAOS_FIRST_DELAY_S": str(first_delay_s),
        "CHAOS_SEED": str(seed),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }
