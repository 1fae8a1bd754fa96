"""A control directory in a temporary folder: a settable clock, a list for a broker, and the worker's part by hand."""

from pathlib import Path
from typing import Any

from support.trees import tree_of
from tapfs.bus import claims
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.fields import Json
from tapfs.bus.layout import DISPLACED_PREFIX
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Part, Plan, Sequence, Step, path_of
from tapfs.bus.publication import Publication
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Failure
from tapfs.bus.states import Want
from tapfs.bus.steps import commit_step, fail_step
from tapfs.errors import PublishFailed

#: 2027-01-15T08:00:00Z.
START = 1_800_000_000.0


def plan_of(steps: int, **options: Any) -> Plan:
    """A chain of so many steps, `0001-one`, ...; options as `Plan` takes them."""
    return Plan(Sequence(tuple(Step(path_of(n, steps), "one", "test.one") for n in range(1, steps + 1))), **options)


class Bench:
    """A control directory and everything around it that a test decides.

    Attributes:
        now: the clock, in seconds; it only moves when a test moves it.
        published: what the broker took, oldest first.
        trouble: while this is set, the broker takes nothing and says this.
        control: the control directory.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self.now = START
        self.published: list[Publication] = []
        self.trouble: str | None = None
        self.control = Control(folder, publisher=self._publish, actor="test", clock=lambda: self.now, **options)

    def _publish(self, publication: Publication) -> None:
        if self.trouble is not None:
            raise PublishFailed(self.trouble)
        self.published.append(publication)

    @property
    def path(self) -> Path:
        return self.control.path

    def start(
        self, steps: int = 2, *, want: Want = Want.RUN, reason: str | None = None, **plan_options: Any
    ) -> Operation:
        """Start an operation of so many steps."""
        return self.control.start(NewOperation("tally", plan_of(steps, **plan_options), {}, want=want, reason=reason))

    def start_tree(self, *parts: Part, **plan_options: Any) -> Operation:
        """Start an operation of parts that have no places yet, one after the other."""
        return self.control.start(NewOperation("tally", tree_of(*parts, **plan_options), {}))

    def other(self, operation: Operation, **options: Any) -> Operation:
        """The same operation as another process sees it: an object that remembers nothing."""
        chosen = {"publisher": self._publish, "actor": "other", "clock": lambda: self.now} | options
        return Control(self.path, **chosen).operation(operation.id)

    def take(self, operation: Operation, number: int = -1) -> HeldClaim | Dropped:
        """Follow a message that was published, the last by default, as a worker does."""
        message = [one for one in self.published if one.operation_id == operation.id][number]
        return claim_step(operation, message.step.path, message.epoch, message.attempt, "worker@test")

    def claim(self, operation: Operation, number: int = -1) -> HeldClaim:
        """The same, for a message that must have an effect."""
        held = self.take(operation, number)
        assert isinstance(held, HeldClaim), held
        return held

    def drop(self, operation: Operation, number: int = -1) -> str:
        """The same, for a message that must have none; returns why."""
        dropped = self.take(operation, number)
        assert isinstance(dropped, Dropped), dropped
        return dropped.reason

    def commit(self, operation: Operation, held: HeldClaim, result: Json = None) -> Settled:
        """Commit a step; it must count."""
        settled = commit_step(operation, held, result, timestamp(self.now))
        assert isinstance(settled, Settled), settled
        return settled

    def step(self, operation: Operation, result: Json = None) -> Settled:
        """Claim and commit the next step."""
        return self.commit(operation, self.claim(operation), result)

    def finish(self, operation: Operation) -> None:
        """Run all that is left of it."""
        while not operation.ready():
            self.step(operation)

    def fail(self, operation: Operation, message: str = "no more paper") -> Settled:
        """Claim the next step and have it raise for good."""
        return self.fail_held(operation, self.claim(operation), message)

    def claim_at(self, operation: Operation, path: str) -> HeldClaim:
        """Follow the last message that was published for a step; it must have an effect."""
        mine = [one for one in self.published if one.operation_id == operation.id]
        return self.claim(operation, max(number for number, one in enumerate(mine) if one.step.path == path))

    def do(self, operation: Operation, path: str, result: Json = None) -> Settled:
        """Claim and commit a step; its path is its result, unless another is given."""
        return self.commit(operation, self.claim_at(operation, path), path if result is None else result)

    def fail_at(self, operation: Operation, path: str, message: str = "no more paper") -> Settled:
        """Claim a step and have it raise for good."""
        return self.fail_held(operation, self.claim_at(operation, path), message)

    def fail_held(self, operation: Operation, held: HeldClaim, message: str = "no more paper") -> Settled:
        """Have a step raise for good; that must count."""
        failure = Failure(type="ValueError", message=message, step=held.step.label, epoch=held.claim.epoch)
        settled = fail_step(operation, held, failure)
        assert isinstance(settled, Settled), settled
        return settled

    def out(self, operation: Operation) -> list[str]:
        """The paths of the steps that are out."""
        return [out.path for out in claims.all_out(operation.layout)]

    def in_state(self, state: str, **options: Any) -> tuple[Operation, HeldClaim | None]:
        """An operation brought into a state by its own ways, and the claim that is held there."""
        operation = self.start(3, **options)
        held = None
        if state in ("running", "pausing", "cancelling"):
            held = self.claim(operation)
        if state in ("pausing", "paused"):
            operation.pause()
        elif state in ("cancelling", "cancelled"):
            operation.cancel()
        elif state == "failed":
            self.fail(operation)
        elif state == "succeeded":
            self.finish(operation)
        elif state == "interrupted":
            self.claim(operation).release()  # what the death of its process does
            operation.reconcile()
        assert operation.state == state
        return operation, held


def events(operation: Operation, event: str | None = None) -> list[dict[str, Json]]:
    """The lines of its journal, or those of one kind."""
    return [entry for entry in operation.journal.entries() if event in (None, entry["event"])]


def history(operation: Operation) -> list[str]:
    """The states it went through, by its journal."""
    return [entry["to"] for entry in operation.journal.entries() if "to" in entry]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder with its content; None for a folder. To show that nothing was changed.

    Without what `state.json` said before, which is kept only for a moment and goes by itself.
    """
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(DISPLACED_PREFIX)
    }
