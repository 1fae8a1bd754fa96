"""The load: processes that start, hold and work operations until the file system under them is gone.

Two roles. An operator starts operations and asks things of its own ones, by verbs, markers and edits; nobody else asks
anything of them, so what must stand after the cut is known. A worker takes any step that is out, as the foreground
runner does, saves checkpoints, and commits, fails, retries or gives back.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never, TypeVar

from powercut.acks import AckLog, read_acks
from powercut.disk import Cut, cut
from powercut.work import advance, first_value, new_operation
from tapfs import settings
from tapfs.bus import claims, files
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim, Out
from tapfs.bus.clock import timestamp
from tapfs.bus.control import Control
from tapfs.bus.decide import Recovery
from tapfs.bus.operation import Operation
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Checkpoint, Failure
from tapfs.bus.requests import in_force
from tapfs.bus.saved import note_begun, read_checkpoint, write_checkpoint
from tapfs.bus.states import FINAL, State, Want
from tapfs.bus.steps import commit_step, fail_step, release_step, retry_step
from tapfs.bus.values import value_of
from tapfs.bus.verbs import Answer
from tapfs.errors import Refused, TapfsError, text_of

#: Exit status of a process that ended with a clear error, and of one that ended in any other way.
CLEAR, UNCLEAR = 0, 1
#: Kinds of calls that are acknowledged.
KINDS = (
    "start",
    "pause",
    "resume",
    "cancel",
    "hold",
    "let go",
    "edit",
    "claim",
    "checkpoint",
    "once",
    "commit",
    "fail",
    "retry",
    "give back",
)
#: Of these there are many in a second.
FREQUENT = ("start", "claim", "checkpoint", "once", "commit")
#: Cuts are no fault of the step.
RECOVERY = Recovery(max_crashes=10**6)
#: Seconds after which a load that was never cut ends.
_LIMIT_S = 30.0
_MOST_LIVE = 6

T = TypeVar("T")


@dataclass(frozen=True)
class Orders:
    """What the processes of one cut are told.

    Attributes:
        control, log, point: the control directory, the log, and where the file system is mounted.
        over: outside, and there some time after the cut.
        cut: which cut it is, from 1.
        seed: of all chance.
        how: how the power is cut.
        after: kind and count: whoever has had so many calls of that kind acknowledged cuts the power itself, at once;
            None leaves the cut to the clock.
        unsynced: what is not synced: `nothing`, `folders`, `contents` or `all`.
    """

    control: Path
    log: Path
    point: Path
    over: Path
    cut: int
    seed: int
    how: Cut
    after: tuple[str, int] | None
    unsynced: str


def run(role: str, number: int, orders: Orders, errors: Path) -> Never:
    """Be one process of the load, in a child made by fork, until the file system is gone."""
    status = UNCLEAR
    who = f"{role}-{number}"
    try:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), sys.stderr.fileno())
        _leave_unsynced(orders.unsynced)
        log = AckLog(orders.log, who, orders.cut)
        load = (_Operator if role == "operator" else _Worker)(who, orders, log)
        try:
            load.work()
            log.write("end", "overtime")
        except (OSError, TapfsError) as error:
            log.write("end", "error", text=text_of(error), type=type(error).__name__)
            status = CLEAR
        except _Over:
            log.write("end", "idle")
            status = CLEAR
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def cut_logged(log: AckLog, orders: Orders) -> None:
    """Cut the power, with a line in the log before and after; another may have done so in this instant."""
    log.write("cut", "begun")
    with suppress(OSError):
        cut(orders.point, orders.how)
        log.write("cut", "over")


def _leave_unsynced(what: str) -> None:
    """Have this process not wait for the disk: the control that shows what the cuts can find."""
    sync = os.fsync
    if what == "all":
        os.environ[settings.SYNC_VARIABLE] = "off"
    elif what == "folders":
        files.sync_dir = lambda path: None
    elif what == "contents":
        os.fsync = lambda descriptor: sync(descriptor) if os.path.isdir(f"/proc/self/fd/{descriptor}") else None  # type: ignore[assignment]
        os.fdatasync = lambda descriptor: None  # type: ignore[assignment]


class _Over(Exception):
    """The file system is gone, and this process had nothing to do there."""


class _Load:
    def __init__(self, who: str, orders: Orders, log: AckLog) -> None:
        self.who = who
        self.log = log
        self.chance = random.Random(f"{orders.seed}/{orders.cut}/{who}")
        self.published: list[Any] = []
        self.control = Control(orders.control, publisher=self.published.append, actor=who, recovery=RECOVERY)
        self._orders = orders
        self._left = orders.after[1] if orders.after else 0
        self._deadline = time.monotonic() + _LIMIT_S

    def work(self) -> None:
        while time.monotonic() < self._deadline:
            self.turn()

    def turn(self) -> None:
        raise NotImplementedError

    def call(
        self,
        kind: str,
        operation: Operation | None,
        function: Callable[[], T],
        told: Callable[[T], dict[str, Any] | None],
        **facts: Any,
    ) -> T:
        """Call something, and log that it begins and what it acknowledged.

        None from `told` is nothing: what was asked may be so or not.
        """
        name = operation.id if operation else None
        self.log.write(kind, "begun", name, **facts)
        try:
            answer = function()
        except Refused:
            self.log.write(kind, "refused", name, **facts)
            raise
        more = told(answer)
        if more is None:
            self.log.write(kind, "open", name, **facts)
            return answer
        self.log.write(kind, "done", **({"operation": name} | facts | more))
        after = self._orders.after
        if after is not None and after[0] == kind:
            self._left -= 1
            if self._left == 0:
                cut_logged(self.log, self._orders)
        return answer


class _Operator(_Load):
    """Starts operations and asks things of them."""

    def __init__(self, who: str, orders: Orders, log: AckLog) -> None:
        super().__init__(who, orders, log)
        started = [line for line in read_acks(orders.log) if line["kind"] == "start" and line["phase"] == "done"]
        self.live = [str(line["operation"]) for line in started if line["who"] == who]
        self.asked = 0

    def turn(self) -> None:
        if not self.live or (len(self.live) < _MOST_LIVE and self.chance.random() < 0.4):
            self.start()
            return
        operation = self.control.operation(self.chance.choice(self.live))
        self.asked += 1
        ask = self.chance.choice((self.verb, self.verb, self.hold, self.let_go, self.edit))
        try:
            ask(operation, f"{self.who}/{self._orders.cut}/{self.asked}")
        except Refused:
            if operation.successful():
                self.live.remove(operation.id)

    def start(self) -> None:
        new = new_operation(self.chance, self.who)
        facts = {"arguments": new.arguments, "want": new.want, "reason": new.reason}
        made = self.call("start", None, lambda: self.control.start(new), lambda made: {"operation": made.id}, **facts)
        self.live.append(made.id)

    def verb(self, operation: Operation, reason: str) -> None:
        name = self.chance.choice(("pause", "pause", "resume", "resume", "cancel"))
        want = Want.RUN if name == "resume" else Want(name)
        verb = getattr(operation, name)

        def is_told(answer: Answer) -> bool:
            return answer.success and (answer.changed or answer.state != State.SUCCEEDED)

        self.call(
            name,
            operation,
            lambda: verb(reason),
            lambda answer: {"changed": answer.changed, "state": answer.state} if is_told(answer) else None,
            want=want,
            reason=reason,
        )

    def hold(self, operation: Operation, reason: str) -> None:
        """Touch PAUSE, as a person does, and see it answered."""

        def touch() -> Settled:
            (operation.path / "PAUSE").touch()
            return operation.reconcile()

        self.call("hold", operation, touch, _unless_ended)

    def let_go(self, operation: Operation, reason: str) -> None:
        """Remove PAUSE, and see it answered."""

        def remove() -> Settled:
            (operation.path / "PAUSE").unlink(missing_ok=True)
            return operation.reconcile()

        self.call("let go", operation, remove, _unless_ended)

    def edit(self, operation: Operation, reason: str) -> None:
        """Write into `state.json`, as `echo >` does or over the bytes that are there, and see it taken in."""
        want = self.chance.choice((Want.RUN, Want.PAUSE))
        text = json.dumps({"want": want, "reason": reason})
        in_place = self.chance.random() < 0.5

        def is_taken_in(settled: Settled) -> bool:
            return (settled.run.want, settled.run.reason) == (want, reason)

        def write() -> Settled:
            old = operation.layout.state.read_text(encoding="utf-8") if in_place else ""
            with open(operation.layout.state, "r+" if in_place else "w", encoding="utf-8") as stream:
                stream.write(text.ljust(len(old)))
            # Somebody may have swapped the file in this instant: then the edit is found a moment later.
            while not is_taken_in(settled := operation.reconcile()) and settled.look_again:
                time.sleep(0.01)
            return settled

        def told(settled: Settled) -> dict[str, Any] | None:
            return {"state": settled.state, "changed": True} if is_taken_in(settled) else None

        self.call("edit", operation, write, told, want=want, reason=reason)


class _Worker(_Load):
    """Takes steps that are out, and works them."""

    def turn(self) -> None:
        ids = self.control.active_ids()
        operation = self.control.operation(self.chance.choice(ids)) if ids else None
        if operation is None or not files.exists(operation.layout.identity):  # indexed, not yet there
            self.idle()
            return
        if self.chance.random() < 0.3:
            operation.reconcile()
        out = next_out(operation)
        if out is None:
            self.idle()
        else:
            self.step(operation, out)

    def idle(self) -> None:
        """Wait a moment. Who only looks may see what the kernel remembers for ever, and is told that all is over."""
        if self._orders.over.exists():
            raise _Over
        time.sleep(0.001)

    def step(self, operation: Operation, out: Out) -> None:
        claim = out.claim
        assert claim is not None
        facts = {"step": out.path, "epoch": claim.epoch, "attempt": claim.attempt}
        held = self.call(
            "claim",
            operation,
            lambda: claim_step(operation, out.path, claim.epoch, claim.attempt, self.who),
            lambda held: {} if isinstance(held, HeldClaim) else None,
            **facts,
        )
        if not isinstance(held, HeldClaim):
            return
        with _released(held):
            self.run_step(operation, held, facts)

    def run_step(self, operation: Operation, held: HeldClaim, facts: dict[str, Any]) -> None:
        arguments = operation.identity().arguments
        value, done = begin(operation, held)
        for chunk in range(done, arguments["chunks"]):
            if in_force(operation.control, operation.layout).want is not Want.RUN:
                self.end("give back", operation, lambda: release_step(operation, held), facts)
                return
            if self.chance.random() < 0.2:
                key = f"effect-{chunk}"
                self.call(
                    "once",
                    operation,
                    lambda key=key: note_begun(operation, held, key),
                    lambda is_noted: {} if is_noted else None,
                    key=key,
                    **facts,
                )
            value = advance(arguments, held.step.path, chunk, value)
            if self.chance.random() < 0.6:
                saved = checkpoint_of(held, value, chunk + 1)
                self.call(
                    "checkpoint",
                    operation,
                    lambda saved=saved: write_checkpoint(operation, held, saved),
                    lambda is_written: {} if is_written else None,
                    done=chunk + 1,
                    **facts,
                )
        fate = self.chance.random()
        if fate < 0.06:
            text = f"out of luck {self.chance.random()}"
            failure = Failure(type="Unlucky", message=text, step=held.step.label, epoch=held.claim.epoch)
            self.end("fail", operation, lambda: fail_step(operation, held, failure), {**facts, "text": text})
        elif fate < 0.12:
            self.end("retry", operation, lambda: retry_step(operation, held, None, held.claim.retries + 1), facts)
        else:
            started_at = timestamp(operation.now())
            self.end("commit", operation, lambda: commit_step(operation, held, value, started_at), facts)

    def end(self, kind: str, operation: Operation, function: Callable[[], Any], facts: dict[str, Any]) -> None:
        """Put the end of a step on disk."""
        self.call(kind, operation, function, lambda end: {} if isinstance(end, Settled) else None, **facts)


def _unless_ended(settled: Settled) -> dict[str, Any] | None:
    """A marker at an operation that has ended is not acted on, and stays as durable as whoever made it has made it."""
    return None if settled.state in FINAL else {"state": settled.state}


@contextmanager
def _released(held: HeldClaim) -> Iterator[None]:
    try:
        yield
    finally:
        held.release()


def next_out(operation: Operation) -> Out | None:
    """A step that is out and that nobody has."""
    for out in claims.all_out(operation.layout):
        if out.claim is not None and not out.is_held and out.claim.holder is None:
            return out
    return None


def begin(operation: Operation, held: HeldClaim) -> tuple[dict[str, Any], int]:
    """Where a step goes on: value and chunks done."""
    saved = read_checkpoint(operation, held)
    if saved is not None:
        return saved.folds[0]["value"], saved.folds[0]["cursor"]
    before = operation.plan().before(held.step)
    return (first_value() if before is None else value_of(operation, before)), 0


def checkpoint_of(held: HeldClaim, value: dict[str, Any], done: int) -> Checkpoint:
    """Cursor and value in one record."""
    return Checkpoint(
        folds=[{"cursor": done, "value": value}], done=float(done), epoch=held.claim.epoch, attempt=held.claim.attempt
    )
