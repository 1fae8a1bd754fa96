"""The operation directory is files only, and cheap to import."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tapfs.bus

MODULES = sorted(path.stem for path in Path(tapfs.bus.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_the_bus_needs_more_than_the_standard_library(module: str) -> None:
    """Nor filelock, which costs 60 ms, before something is locked."""
    assert loaded_by(module) & {"celery", "kombu", "click", "rich", "watchdog", "redis", "filelock"} == set()


def loaded_by(module: str) -> set[str]:
    program = f"import sys, tapfs.bus.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_bus_takes_under_60_ms(tmp_path: Path) -> None:
    """The shortest of some runs, compiled, less Python's own start; again when the machine was busy."""
    for _ in range(4):
        extra_s = _shortest("import tapfs.bus.control, tapfs.bus.operation", tmp_path) - _shortest("pass", tmp_path)
        if extra_s < 0.060:
            return
        print(f"{extra_s * 1000:.0f} ms")
    raise AssertionError(f"it took {extra_s * 1000:.0f} ms")


def _shortest(program: str, cache: Path) -> float:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, env=environment)
        times.append(time.perf_counter() - start)
    return min(times)
