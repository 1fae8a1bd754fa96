"""Low-level use in a project that is not ours: `task_cls` and a `Bus`, and nothing else, with Celery's own worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import Processes, wait_for
from tapfs.bus.control import Control
from tapfs.bus.operation import Operation

LONG_S = 40.0

#: A project as people have them: an app in a package, tasks in a module of their own, one of them a shared task.
PROJECT = {
    "shop/__init__.py": "",
    "shop/celery.py": """
import os
from celery import Celery
from tapfs import Bus

app = Celery("shop", broker=os.environ["SHOP_BROKER"], include=["shop.tasks"], task_cls="tapfs.flow:TappableTask")
app.conf.task_default_queue = "shop"
bus = Bus("control", app=app)
""",
    "shop/tasks.py": """
import time
from pathlib import Path
from celery import shared_task
from shop.celery import app


@app.task
def read(count):
    return list(range(count))


@shared_task
def clean(numbers, gate):
    with open("ledger", "a") as ledger:
        ledger.write("clean\\n")
    while not Path(gate).exists():  # no tap inside: a pause waits for the step's end
        time.sleep(0.02)
    return [number for number in numbers if number % 2]


@app.task(bind=True, max_retries=2)
def save(self, numbers, factor):
    with open("ledger", "a") as ledger:
        ledger.write("save\\n")
    if self.request.retries == 0:
        raise self.retry(countdown=0.05)
    return sum(numbers) * factor
""",
    "start.py": """
from shop.celery import bus
from shop.tasks import clean, read, save
from tapfs import tappable

operation = tappable(read.s(10) | clean.s("go") | save.s(factor=2), bus=bus).delay()
print(operation.id)
""",
    "plain.py": """
from shop.tasks import read
read.delay(3)
""",
}


class Project:
    """The project in a folder of its own, with a worker as its people start it."""

    def __init__(self, folder: Path, url: str, processes: Processes) -> None:
        self.folder = folder
        for name, text in PROJECT.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.environment: dict[str, str | None] = {"SHOP_BROKER": url, "PYTHONPATH": str(folder)}
        self._processes = processes
        self.worker = self.start_worker()

    def start_worker(self):
        worker = self._processes.python(
            "-m",
            "celery",
            "-A",
            "shop",
            "worker",
            "--concurrency=2",
            "--loglevel=INFO",
            name="worker",
            env=self.environment,
            cwd=self.folder,
        )
        worker.wait_for_output("ready.")
        return worker

    def python(self, script: str) -> str:
        process = self._processes.python(
            script, name="script", env=self.environment, cwd=self.folder, separate_errors=True
        )
        assert process.wait(LONG_S) == 0, process.tail
        return process.output.strip()

    def start(self) -> Operation:
        return Control(self.folder / "control").find(self.python("start.py"))

    @property
    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def project(tmp_path: Path, redis_url: str, processes: Processes) -> Project:
    return Project(tmp_path, redis_url, processes)


def waits_for(operation: Operation, state: str) -> None:
    wait_for(lambda: operation.state == state, LONG_S, lambda: f"it is {operation.state}: {operation.failure()}")


def test_a_plain_chain_is_paused_by_touch_and_goes_on_by_rm(project: Project) -> None:
    operation = project.start()
    wait_for(lambda: project.ledger == ["clean"], LONG_S)
    (operation.path / "PAUSE").touch()
    waits_for(operation, "pausing")
    (project.folder / "go").touch()
    waits_for(operation, "paused")
    assert (operation.path / "steps" / "0002-clean.json").exists()
    assert project.ledger == ["clean"]
    (operation.path / "PAUSE").unlink()
    waits_for(operation, "succeeded")
    assert operation.result == 2 * (1 + 3 + 5 + 7 + 9)
    assert project.ledger == ["clean", "save", "save"]


def test_a_worker_that_is_killed_loses_nothing(project: Project) -> None:
    """Laws 1 and 3."""
    operation = project.start()
    wait_for(lambda: project.ledger == ["clean"], LONG_S)
    project.worker.kill(group=True)
    (project.folder / "go").touch()
    project.start_worker()
    waits_for(operation, "succeeded")
    assert operation.result == 50
    assert project.ledger == ["clean", "clean", "save", "save"]


def test_what_is_not_tapfs_runs_as_ever_beside_it(project: Project) -> None:
    project.python("plain.py")
    project.worker.wait_for_output("shop.tasks.read[")
    project.worker.wait_for_output("succeeded in")
    assert not (project.folder / "control" / "operations").exists() or not Control(project.folder / "control").ids()


def test_the_project_imports_nothing_else_of_tapfs(project: Project) -> None:
    """What the project names is `Bus`, `tappable` and, as a text, the task class."""
    text = "\n".join(PROJECT.values())
    assert [line for line in text.splitlines() if "import" in line and "tapfs" in line] == [
        "from tapfs import Bus",
        "from tapfs import tappable",
    ]
    code = "import shop.celery, sys; print(sorted(name for name in sys.modules if name.startswith('tapfs.cli')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env={"SHOP_BROKER": "memory://", "PYTHONPATH": str(project.folder), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
