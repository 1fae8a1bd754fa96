"""Real processes and servers for the tests, and a way to wait for them. `from support import wait_for`."""

from support.machine import skip_unless
from support.processes import Process, Processes
from support.servers import RedisServer, redis_executable
from support.waiting import wait_for

__all__ = ["Process", "Processes", "RedisServer", "redis_executable", "skip_unless", "wait_for"]
