"""The operation directory is files only, and cheap to import."""

import subprocess
import sys
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
