"""The actions that are struck by faults, and what must be true afterwards.

Every operation here has an exact result, known beforehand: each step adds its rows, one after the other, and may go on
from a checkpoint in which cursor and value belong together. So a row that was lost or done twice shows.

An action is prepared in this process, done in a child, and judged here again, by objects that remember nothing: as
another process sees the files. The child that met with an error is still alive then, as a worker would be.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from faults.injection import Outcome, Tell
from support.bench import Bench, events, history, plan_of
from support.trees import STEP, wide
from support.waiting import wait_for
from tapfs.bus import files
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.fields import Json
from tapfs.bus.findings import Finding, Severity
from tapfs.bus.locks import is_held
from tapfs.bus.losses import give_away
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Part, Sequence, Step
from tapfs.bus.publication import Publication
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import LARGE, Checkpoint, Commit, Failure, Run
from tapfs.bus.runs import read_run
from tapfs.bus.saved import read_checkpoint, write_checkpoint
from tapfs.bus.states import FINAL, TABLE, State
from tapfs.bus.steps import commit_step, fail_step, interrupt_step, release_step, retry_step
from tapfs.bus.values import value_of
from tapfs.bus.verify import verify_control

STEPS, ROWS = 2, 3
#: Seconds after which every message that nobody followed is published again.
LATER_S = 600.0
_MOST_ROUNDS = 20


def rows_of(path: str) -> list[str]:
    """The rows that a step adds."""
    return [f"{path}:{row}" for row in range(1, ROWS + 1)]


#: What every chain here comes to.
EXACT = [row for step in plan_of(STEPS).steps for row in rows_of(step.path)]


@dataclass(frozen=True)
class Message:
    """What a publication says to a worker."""

    operation_id: str
    path: str
    epoch: int
    attempt: int

    @classmethod
    def of(cls, publication: Publication) -> Message:
        return cls(publication.operation_id, publication.step.path, publication.epoch, publication.attempt)


# ---- the worker's part, as `tapfs.flow.step` does it


def take(operation: Operation, message: Message) -> HeldClaim | Dropped:
    """Follow a message."""
    return claim_step(operation, message.path, message.epoch, message.attempt, "worker@test")


def work_on(operation: Operation, held: HeldClaim, rows: int = ROWS) -> list[Json]:
    """Do so many of a step's rows, from its checkpoint on; returns its value."""
    saved = read_checkpoint(operation, held)
    fold = saved.folds[0] if saved is not None else {"cursor": 0, "value": []}
    return [*fold["value"], *rows_of(held.step.path)[fold["cursor"] : rows]]


def result_of(operation: Operation, held: HeldClaim) -> list[Json]:
    """Do a step to its end: the result before it, and its own rows."""
    before = operation.plan().before(held.step)
    earlier = value_of(operation, before) if before is not None else []
    return [*earlier, *work_on(operation, held)]


def save(operation: Operation, held: HeldClaim, rows: int) -> bool:
    """Write the checkpoint behind so many rows."""
    fold = {"cursor": rows, "value": work_on(operation, held, rows)}
    claim = held.claim
    return write_checkpoint(operation, held, Checkpoint(folds=[fold], epoch=claim.epoch, attempt=claim.attempt))


def commit(operation: Operation, held: HeldClaim, then: tuple[Part, ...] = ()) -> Settled | Dropped:
    """Do a step and commit it, with what it puts in behind itself."""
    started_at = timestamp(operation.now())
    return commit_step(operation, held, result_of(operation, held), started_at, then=then)


def exact(operation: Operation, part: Part, before: Json = None) -> Json:
    """What a part must come to, whatever befell it; in the place of a member that was given up stands its error."""
    if isinstance(part, Step):
        return [*(before or []), *rows_of(part.path)]
    if isinstance(part, Sequence):
        for one in part.parts:
            before = exact(operation, one, before)
        return before
    return [exact_member(operation, member, before) for member in part.members]


def exact_member(operation: Operation, member: Part, before: Json) -> Json:
    path = operation.layout.given_up(member)
    if not files.exists(path):
        return exact(operation, member, before)
    failure = Failure.read(path)
    return {"error": {"type": failure.type, "message": failure.message, "step": failure.step}}


# ---- the actions


class Action:
    """One thing that a process does, in a control directory of its own.

    Attributes:
        operation: what it is done to.
        held: the claim that this process holds all the while, and is alive: nobody may take it.
        own: in the child, its operation; `own_held` its claim.
    """

    title: ClassVar[str]
    #: Whether what is committed may be put aside afterwards.
    goes_back: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench(folder)
        self.operation: Operation | None = None
        self.held: HeldClaim | None = None
        self.own: Operation
        self.own_held: HeldClaim
        self.arrange()

    def arrange(self) -> None:
        """Bring about what there is before."""
        self.operation = self.bench.start(STEPS)

    def get_ready(self, tell: Tell) -> None:
        """Be a process of its own, in the child: objects that remember nothing; what it publishes is told."""
        control = Control(
            self.folder,
            publisher=lambda publication: tell(vars(Message.of(publication))),
            actor="child",
            clock=lambda: self.bench.now,
        )
        self.control = control
        if self.operation is not None:
            self.own = control.operation(self.operation.id)

    def act(self) -> Json:
        """Do it, in the child. What it returns is what it says that it has done."""
        raise NotImplementedError

    def check_done(self, done: Json, operation: Operation) -> None:
        """Hold what the child says that it has done against the files."""
        raise NotImplementedError

    def put_in(self, path: str) -> tuple[Part, ...]:
        """What a step puts in behind itself, each time it is done."""
        return ()

    def go_on(self, later: Later) -> None:
        """Do what people and processes do next, up to the end."""
        assert self.operation is not None
        later.finish(self.operation.id)

    # what several of them are made of

    def latest(self) -> Message:
        return Message.of(self.bench.published[-1])

    def claim_here(self) -> None:
        """Hold the step that is out, in this process."""
        assert self.operation is not None
        held = take(self.operation, self.latest())
        assert isinstance(held, HeldClaim), held
        self.held = held

    def claim_there(self, rows: int = 0) -> None:
        """Hold it in the child, with a checkpoint behind so many rows."""
        held = take(self.own, self.latest())
        assert isinstance(held, HeldClaim), held
        self.own_held = held
        if rows:
            assert save(self.own, held, rows)


class Start(Action):
    """The first operation of a directory that is not set up."""

    title = "start"

    def arrange(self) -> None:
        pass

    def act(self) -> Json:
        return self.control.start(NewOperation("tally", plan_of(STEPS), {})).id

    def go_on(self, later: Later) -> None:
        ids = later.bench.control.ids()
        if later.outcome.hint == "nothing was started":
            assert not ids, "it says that nothing was started, and there is an operation"
        if later.outcome.done is not None:
            assert ids == [later.outcome.done]
        assert len(ids) <= 1
        later.finish(ids[0] if ids else later.bench.start(STEPS).id)


class Claim(Action):
    """A worker takes a step."""

    title = "claim"

    def act(self) -> Json:
        held = take(self.own, self.latest())
        if isinstance(held, Dropped):
            return f"dropped: {held.reason}"
        self.own_held = held  # for as long as the child lives
        return "claimed"

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "claimed", f"the only message there is was {done}"
        assert is_held(str(operation.layout.claim("0001"))), "the step was given away again at once"
        assert operation.state is State.RUNNING


class SaveCheckpoint(Action):
    """A running step saves its place over an earlier one, and reconciles, as a tap does."""

    title = "checkpoint"

    def get_ready(self, tell: Tell) -> None:
        super().get_ready(tell)
        self.claim_there(rows=1)

    def act(self) -> Json:
        try:
            is_saved = save(self.own, self.own_held, 2)
            self.own.reconcile()
        except BaseException:
            self.own_held.release()  # as `run_step` does
            raise
        return is_saved

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done is True, "it says that the step was given to another"
        saved = Checkpoint.read(operation.layout.checkpoint(operation.plan().step("0001")))
        assert saved.folds == [{"cursor": 2, "value": rows_of("0001")[:2]}]


class _End(Action):
    """A worker ends a step; whatever comes of it, it lets go of the claim, as `run_step` does."""

    def get_ready(self, tell: Tell) -> None:
        super().get_ready(tell)
        self.claim_there(rows=1)

    def act(self) -> Json:
        try:
            ended = self.end()
        finally:
            self.own_held.release()
        return "done" if isinstance(ended, Settled) else f"dropped: {ended.reason}"

    def end(self) -> Settled | Dropped:
        raise NotImplementedError


class CommitStep(_End):
    """A worker commits a step; the next one follows."""

    title = "commit"
    finished = 0

    def arrange(self) -> None:
        self.operation = self.bench.start(STEPS)
        for _ in range(self.finished):
            held = take(self.operation, self.latest())
            assert isinstance(held, HeldClaim)
            assert isinstance(commit(self.operation, held), Settled)

    def end(self) -> Settled | Dropped:
        return commit(self.own, self.own_held)

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "done", f"the end of a step that nobody else had was {done}"
        step = operation.plan().steps[self.finished]
        assert operation.result_of(step) == EXACT[: ROWS * (self.finished + 1)]
        assert not files.exists(operation.layout.claim(step.path))


class CommitLast(CommitStep):
    """A worker commits the last step: the operation succeeds."""

    title = "commit the last"
    finished = STEPS - 1

    def check_done(self, done: Json, operation: Operation) -> None:
        super().check_done(done, operation)
        assert operation.state is State.SUCCEEDED
        assert operation.result == EXACT


class CommitBesideEdit(CommitStep):
    """A worker commits a step while `state.json` holds a person's edit that nobody has seen yet."""

    title = "commit beside an edit"

    def get_ready(self, tell: Tell) -> None:
        super().get_ready(tell)
        self.own.layout.state.write_text('{"want": "pause", "reason": "lunch"}')

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        assert operation.reconcile().state is State.PAUSED, "the edit was lost"
        assert (operation.view().want, operation.view().reason) == ("pause", "lunch")
        operation.resume()
        later.finish(operation.id)


class CommitMember(_End):
    """A worker commits a member of a group, while a living worker has another one."""

    title = "commit a member"

    def arrange(self) -> None:
        self.operation = self.bench.start_tree(wide(3, concurrency=2), STEP)
        self.held = self.bench.claim_at(self.operation, "0001/0001")

    def end(self) -> Settled | Dropped:
        return commit(self.own, self.own_held)

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "done", f"the end of a step that nobody else had was {done}"
        assert operation.result_of(operation.plan().step("0001/0002")) == rows_of("0001/0002")
        assert not files.exists(operation.layout.claim("0001/0002"))
        assert files.exists(operation.layout.claim("0001/0003")), "there is room for the next member"

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        later.end(later.operation(self.operation.id), self.held)
        later.finish(self.operation.id)


class CommitAndPutIn(CommitStep):
    """A worker commits a step that puts in another behind itself."""

    title = "commit and put in"

    def put_in(self, path: str) -> tuple[Part, ...]:
        return (STEP,) if path == "0001" else ()

    def end(self) -> Settled | Dropped:
        return commit(self.own, self.own_held, self.put_in("0001"))

    def check_done(self, done: Json, operation: Operation) -> None:
        super().check_done(done, operation)
        assert [step.path for step in operation.plan().steps] == ["0001", "0001.0001", "0002"]
        assert files.exists(operation.layout.claim("0001.0001"))

    def go_on(self, later: Later) -> None:
        super().go_on(later)
        assert self.operation is not None
        assert len(later.operation(self.operation.id).plan().steps) == STEPS + 1, "it was put in once"


class GiveUpMember(_End):
    """A member of a group that goes on without it raises for good."""

    title = "give up a member"

    def arrange(self) -> None:
        self.operation = self.bench.start_tree(wide(2, on_error=CONTINUE), STEP)

    def end(self) -> Settled | Dropped:
        claim = self.own_held.claim
        failure = Failure(type="ValueError", message="no more paper", step="0001/0002-one", epoch=claim.epoch)
        return fail_step(self.own, self.own_held, failure)

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "done", f"the end of a step that nobody else had was {done}"
        assert files.exists(operation.layout.given_up(operation.plan().part("0001/0002")))
        assert not files.exists(operation.layout.claim("0001/0002"))
        assert operation.state not in FINAL


class FailStep(_End):
    """A step raises for good."""

    title = "fail"

    def end(self) -> Settled | Dropped:
        claim = self.own_held.claim
        failure = Failure(type="ValueError", message="no more paper", step="0001-one", epoch=claim.epoch)
        return fail_step(self.own, self.own_held, failure)

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "done", f"the end of a step that nobody else had was {done}"
        assert operation.state is State.FAILED

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        if operation.reconcile().state is State.FAILED:
            assert operation.failure() == Failure(type="ValueError", message="no more paper", step="0001-one", epoch=1)
            operation.resume()
        later.finish(operation.id)


class RetryStep(_End):
    """A step asks for a retry."""

    title = "retry"

    def end(self) -> Settled | Dropped:
        return retry_step(self.own, self.own_held, None, 1)

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "done", f"the end of a step that nobody else had was {done}"
        assert not is_held(str(operation.layout.claim("0001")))


class InterruptStep(RetryStep):
    """A step stops at a tap for its worker's sake."""

    title = "interrupt at a tap"

    def end(self) -> Settled | Dropped:
        return interrupt_step(self.own, self.own_held, "the worker is shut down")


class ReleaseStep(_End):
    """A step stops at a tap, because a pause is asked."""

    title = "release at a tap"

    def get_ready(self, tell: Tell) -> None:
        super().get_ready(tell)
        self.own.pause("lunch")

    def end(self) -> Settled | Dropped:
        return release_step(self.own, self.own_held)

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == "done", f"the end of a step that nobody else had was {done}"
        assert operation.state is State.PAUSED

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        later.check_state(operation, (State.PAUSED,))
        later.finish(later.resume(operation))


class _Verb(Action):
    """A person asks for something."""

    #: What the verb may say of a fault in place of doing what is asked: then it is done later.
    hindrance = ""

    def act(self) -> Json:
        answer = self.ask(self.own)
        assert answer["success"] or (self.hindrance and self.hindrance in answer["message"]), answer
        return answer["state"]

    def ask(self, operation: Operation) -> dict[str, Json]:
        raise NotImplementedError

    def check_done(self, done: Json, operation: Operation) -> None:
        assert operation.state == done


class Pause(_Verb):
    """A pause of an operation that nobody works on."""

    title = "pause"

    def ask(self, operation: Operation) -> dict[str, Json]:
        return operation.pause("lunch").document()

    def check_done(self, done: Json, operation: Operation) -> None:
        super().check_done(done, operation)
        assert (read_run(operation).want, read_run(operation).reason) == ("pause", "lunch")

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        later.check_state(operation, (State.RUNNING, State.PAUSING) if self.held else (State.QUEUED, State.PAUSED))
        operation.pause("lunch")
        later.end(operation, self.held)
        later.check_state(operation, (State.PAUSED,))
        later.finish(later.resume(operation))


class PauseRunning(Pause):
    """A pause while a living worker has a step."""

    title = "pause while running"

    def arrange(self) -> None:
        super().arrange()
        self.claim_here()


class PauseByMarker(Action):
    """Whoever looks finds `PAUSE`, while a living worker has a step."""

    title = "reconcile with PAUSE"

    def arrange(self) -> None:
        super().arrange()
        assert self.operation is not None
        self.claim_here()
        (self.operation.path / "PAUSE").write_text("lunch\n")

    def act(self) -> Json:
        return self.own.reconcile().state.value

    def check_done(self, done: Json, operation: Operation) -> None:
        assert operation.state == done
        assert done == State.PAUSING, f"it is {done}, while a living worker has a step"

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        later.end(operation, self.held)
        later.check_state(operation, (State.PAUSED,))
        (operation.path / "PAUSE").unlink()
        later.finish(operation.id)


class Cancel(_Verb):
    """A cancel of an operation that nobody works on."""

    title = "cancel"

    def ask(self, operation: Operation) -> dict[str, Json]:
        return operation.cancel("no use").document()

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        held, free = (State.RUNNING, State.CANCELLING), (State.QUEUED, State.CANCELLED)
        later.check_state(operation, held if self.held else free)
        operation.cancel("no use")
        later.end(operation, self.held)
        later.check_state(operation, (State.CANCELLED,))
        later.finish(later.resume(operation))


class CancelRunning(Cancel):
    """A cancel while a living worker has a step."""

    title = "cancel while running"

    def arrange(self) -> None:
        super().arrange()
        self.claim_here()


class Resume(_Verb):
    """A resume of a paused operation."""

    title = "resume"

    def arrange(self) -> None:
        super().arrange()
        assert self.operation is not None
        held = take(self.operation, self.latest())
        assert isinstance(held, HeldClaim)
        save(self.operation, held, 2)
        (self.operation.path / "PAUSE").write_text("lunch\n")
        assert self.operation.pause().state == State.PAUSING
        release_step(self.operation, held)
        assert self.operation.state is State.PAUSED

    def ask(self, operation: Operation) -> dict[str, Json]:
        return operation.resume().document()

    def check_done(self, done: Json, operation: Operation) -> None:
        super().check_done(done, operation)
        assert done == State.RUNNING
        assert operation.epoch() == 2

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        later.finish(later.resume(later.operation(self.operation.id)))


class ResumeFailed(Resume):
    """A resume of an operation that failed."""

    title = "resume after a failure"

    def arrange(self) -> None:
        self.operation = self.bench.start(STEPS)
        self.bench.fail(self.operation)


class Rewind(_Verb):
    """A paused operation goes back to its first group, all of which is done."""

    title = "rewind"
    goes_back = True
    hindrance = "it cannot be rewound"

    def arrange(self) -> None:
        self.operation = self.bench.start_tree(wide(2), STEP)
        for path in ("0001/0001", "0001/0002"):
            commit(self.operation, self.bench.claim_at(self.operation, path))
        assert self.operation.pause().state == State.PAUSED

    def ask(self, operation: Operation) -> dict[str, Json]:
        return operation.rewind("0001").document()

    def check_done(self, done: Json, operation: Operation) -> None:
        super().check_done(done, operation)
        if done == State.PAUSED:  # nothing could be put aside: it said so, and is held until it is done
            assert read_run(operation).rewind_to == "0001"
            return
        assert (done, operation.epoch()) == (State.RUNNING, 2)
        assert not files.exists(operation.layout.steps / "0001"), "it is done again"
        assert len(list((operation.layout.attic / "epoch-1" / "steps" / "0001").iterdir())) == 2

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        operation = later.operation(self.operation.id)
        later.finish(later.resume(operation))
        kept = [path for path in operation.path.rglob("0001-one.json") if path.parent.name == "0001"]
        assert len(kept) == operation.epoch() or later.outcome.done is None, "nothing is deleted"


class Look(Action):
    """A supervisor looks, while a living worker has a step: nothing may come of it."""

    title = "look at a running one"

    def arrange(self) -> None:
        super().arrange()
        self.claim_here()

    def act(self) -> Json:
        return self.own.reconcile().state.value

    def check_done(self, done: Json, operation: Operation) -> None:
        assert operation.state == done
        assert done == State.RUNNING, f"it is {done}, while a living worker has a step"

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        assert self.held is not None
        assert not later.outcome.told, "a step that a living worker has was published"
        later.end(later.operation(self.operation.id), self.held)
        later.finish(self.operation.id)


class GiveAway(Action):
    """A supervisor takes a step from a worker that is frozen, which wakes up afterwards."""

    title = "give away"

    def arrange(self) -> None:
        super().arrange()
        self.claim_here()

    def act(self) -> Json:
        return give_away(self.own, "0001", 1, 1, "worker@test gives no sign of life")

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done is True, "it says that nobody had the step"

    def go_on(self, later: Later) -> None:
        assert self.operation is not None
        assert self.held is not None
        operation = later.operation(self.operation.id)
        ended = commit(operation, self.held)
        assert isinstance(ended, Dropped) or later.outcome.done is None, "it committed over the one that has its step"
        later.finish(operation.id)


class Recover(Action):
    """A supervisor finds a step whose worker died."""

    title = "recover"

    def arrange(self) -> None:
        super().arrange()
        assert self.operation is not None
        self.claim_here()
        assert self.held is not None
        save(self.operation, self.held, 2)
        self.held.release()  # what the death of its process does
        self.held = None

    def act(self) -> Json:
        return self.own.reconcile().state.value

    def check_done(self, done: Json, operation: Operation) -> None:
        assert done == operation.state == State.INTERRUPTED


ACTIONS: tuple[type[Action], ...] = (
    Start,
    Claim,
    SaveCheckpoint,
    CommitStep,
    CommitLast,
    CommitBesideEdit,
    CommitMember,
    CommitAndPutIn,
    GiveUpMember,
    FailStep,
    RetryStep,
    InterruptStep,
    ReleaseStep,
    Pause,
    PauseRunning,
    PauseByMarker,
    Cancel,
    CancelRunning,
    Resume,
    ResumeFailed,
    Rewind,
    Look,
    GiveAway,
    Recover,
)


# ---- afterwards


class Later:
    """Another process, after the fault: it goes on with what it finds.

    Args:
        action: what was done.
        outcome: what became of it.
        end_child: ends the child, where it lives yet.
        chance: in which order and how often messages arrive.
    """

    def __init__(self, action: Action, outcome: Outcome, end_child: Callable[[], None], chance: random.Random) -> None:
        self.action = action
        self.outcome = outcome
        self._end_child = end_child
        self.bench = Bench(action.folder)
        self.bench.now = action.bench.now + 1
        self._chance = chance
        self._followed = 0
        self._messages = [Message.of(one) for one in action.bench.published]
        self._messages += [Message(**one) for one in outcome.told if isinstance(one, dict)]

    def operation(self, operation_id: str) -> Operation:
        return self.bench.control.operation(operation_id)

    def judge(self) -> None:
        """Check all that must be true, and go on to the end."""
        outcome = self.outcome
        assert outcome.crash is None, outcome.crash
        if outcome.error is not None:
            check_sentence(outcome.error, self.action.folder)
            assert outcome.leaked <= 0, f"it has {outcome.leaked} more files open than before"
        before = {}
        if self.action.operation is not None:
            operation = self.operation(self.action.operation.id)
            check_readable(operation)
            before = commits_of(operation)
            if not outcome.was_killed and outcome.error is None:
                self.action.check_done(outcome.done, operation)
                self._end_child()
        self.action.go_on(self)
        for operation_id in self.bench.control.ids():
            operation = self.operation(operation_id)
            check_history(operation)
            rejected = sorted(path.name for path in operation.path.glob("*.rejected-*"))
            assert not rejected, f"{rejected} was set aside, and nobody wrote nonsense"
            is_kept = commits_of(operation).items() >= before.items()
            assert is_kept or self.action.goes_back, "a committed step was changed"
        faults = [one for one in verify_control(self.bench.control)[1] if one.severity is not Severity.NOTE]
        assert not faults, _told(faults)

    def check_state(self, operation: Operation, states: tuple[State, ...]) -> None:
        """Bring the files in line; the state is then one of these."""
        state = operation.reconcile().state
        assert state in states, f"it is {state}"

    def resume(self, operation: Operation) -> str:
        """Let it go on, if it does not yet; returns its id."""
        operation.resume()
        return operation.id

    def end(self, operation: Operation, held: HeldClaim | None) -> None:
        """Have the living worker end its step as it is asked to: its right must still stand."""
        if held is None:
            return
        assert held.is_ours(), "the claim of a living worker was given away"
        state = operation.reconcile().state
        is_held = state in (State.PAUSING, State.CANCELLING)
        ended = release_step(operation, held) if is_held else commit(operation, held)
        assert isinstance(ended, Settled), ended

    def finish(self, operation_id: str) -> None:
        """Follow every message there is, doubled and in any order, and recover what was lost, up to the exact result.

        A message that is not there any more is published again, after its delay.
        """
        operation = self.operation(operation_id)
        operation.reconcile()
        for _ in range(_MOST_ROUNDS):
            arrived = [message for message in self._arrived() if message.operation_id == operation_id]
            for message in arrived:
                self._follow(operation, message)
            if not arrived and operation.state in FINAL:
                break
            if not arrived:
                self.bench.now += LATER_S
                operation.reconcile()
        assert operation.state is State.SUCCEEDED, f"it does not go on: {operation.view()}"
        assert operation.result == exact(operation, operation.plan().root)

    def _arrived(self) -> list[Message]:
        """What has been published since the last time, each message once or twice, in any order."""
        self._messages += [Message.of(one) for one in self.bench.published]
        self.bench.published.clear()
        arrived = [message for message in self._messages for _ in range(self._chance.choice((1, 1, 2)))]
        self._chance.shuffle(arrived)
        self._messages.clear()
        return arrived

    def _follow(self, operation: Operation, message: Message) -> None:
        held = take(operation, message)
        if isinstance(held, HeldClaim):
            ended = commit(operation, held, self.action.put_in(held.step.path))
            assert isinstance(ended, Settled), ended


def check_sentence(text: str, folder: Path) -> None:
    """An error says where, and has none of Python's words in it."""
    assert str(folder) in text, f"the error does not say where: {text!r}"
    assert "Errno" not in text
    assert "Traceback" not in text
    assert "None" not in text


def check_readable(operation: Operation) -> None:
    """All that was there can be read, as it stands."""
    reading = operation.state_file.read()
    assert reading.view is not None, f"state.json cannot be read: {reading.faults}"
    Run.read(operation.layout.run)
    operation.identity()
    operation.plan()
    kinds = {".checkpoint.json": Checkpoint, ".error.json": Failure}
    for path in operation.layout.steps.rglob("*.json"):
        kind = next((kind for suffix, kind in kinds.items() if path.name.endswith(suffix)), Commit)
        kind.read(path, LARGE)
    assert history(operation), "the journal is gone"


def commits_of(operation: Operation) -> dict[str, bytes]:
    """Every committed step, as it stands."""
    steps = operation.layout.steps
    others = (".checkpoint.json", ".error.json")
    paths = [path for path in steps.rglob("[0-9]*.json") if not path.name.endswith(others)]
    return {str(path.relative_to(steps)): path.read_bytes() for path in paths}


def check_history(operation: Operation) -> None:
    """The journal goes from state to state as the table has it, without a gap, and ends once."""
    here: Json = State.QUEUED
    for entry in events(operation, "state"):
        assert entry["from"] == here, f"the journal has a gap: {entry} after {here}"
        assert entry["to"] in TABLE[State(here)], f"the journal has a step that is not in the table: {entry}"
        here = entry["to"]
    assert history(operation).count(State.SUCCEEDED) == 1


def _told(findings: list[Finding]) -> str:
    return "; ".join(f"{one.path}: {one.text}" for one in findings)


def check_tidy(folder: Path) -> None:
    """When all has been quiet for a moment nothing is left to look at again, and the index is empty."""
    control = Control(folder)
    for operation_id in control.ids():
        operation = control.operation(operation_id)
        wait_for(lambda operation=operation: not operation.reconcile().look_again, message=f"{folder} is never quiet")
        assert not list(operation.path.glob(".state.json.*")), f"a displaced state.json is kept in {operation.path}"
    assert not set(control.active_ids()) & set(control.ids())
