"""What the tests of the command line share: a control directory, operations in it, and a way to call `tapfs`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan, Sequence, Step, path_of
from tapfs.bus.publication import Publication
from tapfs.bus.steps import commit_step
from tapfs.cli.program import program


class Bench:
    """A control directory whose worker is the test itself."""

    def __init__(self, folder: Path) -> None:
        self.published: list[Publication] = []
        self.control = Control(folder, publisher=self.published.append, actor="test")

    def start(self, name: str = "tally", steps: int = 2, **more: Any) -> Operation:
        """Make an operation of some steps."""
        plan = Plan(Sequence(tuple(Step(path_of(number, steps), "count", "t.count") for number in range(1, steps + 1))))
        return self.control.start(NewOperation(name, plan, more.pop("arguments", {}), **more))

    def claim(self, operation: Operation) -> HeldClaim:
        """Claim the operation's step that was published last."""
        last = next(one for one in reversed(self.published) if one.operation_id == operation.id)
        held = claim_step(operation, last.step.path, last.epoch, last.attempt, "worker@test")
        assert isinstance(held, HeldClaim)
        return held

    def finish(self, operation: Operation, result: Any = 3) -> None:
        """Run all steps."""
        while not operation.ready():
            commit_step(operation, self.claim(operation), result, "2026-11-22T10:15:07.120Z")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


@pytest.fixture
def tapfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call `tapfs` in this process, in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    # The built-in app is bound to the control directory of whoever imports it first.
    monkeypatch.delitem(sys.modules, "tapfs.flow.app", raising=False)

    def call(*words: str) -> Result:
        return CliRunner().invoke(program, list(words), prog_name="tapfs")

    return call


@pytest.fixture
def tapfs_json(tapfs: Callable[..., Result]) -> Callable[..., Any]:
    """Call `tapfs ... --json` and give the document on its stdout."""

    def call(*words: str, exit_code: int = 0) -> Any:
        result = tapfs(*words, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)

    return call
