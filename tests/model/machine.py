"""The real protocol, driven by hypothesis through every order of events, and held against the model after each.

Messages are delivered late, twice, out of order or never; workers commit, fail, retry, are interrupted, die, or are
frozen while their step is given away; the broker goes and comes; the clock jumps; people ask by verbs, markers and
edits, and vandalise files. All that calls `tapfs.bus.steps` stands here, in `Worker` and in `deliver`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model.pure import MAX_CRASHES, MAX_INTERRUPTIONS, Everything, Model
from support.bench import START, Bench
from support.editors import by_rename, in_place
from tapfs.bus import claims, files
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.decide import Recovery
from tapfs.bus.fields import Json
from tapfs.bus.inspection import inspect
from tapfs.bus.losses import fail_out, give_away, note_loss, pass_on, refuse
from tapfs.bus.operation import Operation
from tapfs.bus.publication import Publication
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Checkpoint, Commit, Failure, Run
from tapfs.bus.saved import write_checkpoint
from tapfs.bus.states import FINAL, TABLE, State, Want
from tapfs.bus.steps import (
    commit_step,
    fail_step,
    interrupt_step,
    release_step,
    retry_step,
    return_step,
    take_pause_notice,
)
from tapfs.bus.verbs import Answer
from tapfs.errors import Refused

#: Operations at once.
MOST_OPERATIONS = 3
#: Rounds of 61 s and a delivery of everything, after which an operation that nobody holds must have ended. More than an
#: hour: so long a message is not missed where the clock was set back.
MOST_ROUNDS = 100


#: As the model has it.
RECOVERY = Recovery(max_crashes=MAX_CRASHES, max_interruptions=MAX_INTERRUPTIONS)


class MachineClock:
    """The wall clock as `state.json` is judged by: no edit gets old by itself, all do when a test says so."""

    def __init__(self) -> None:
        self.skew_s = 0.0

    def time(self) -> float:
        return time.time() + self.skew_s


#: Stands in `tapfs.bus.statefile` for the machine's clock, whose times the file system writes.
CLOCK = MachineClock()
#: What the settling times are set to: longer than any example runs.
NEVER_S = 1e6


class MoodyBench(Bench):
    """A bench whose broker refuses the next so many messages."""

    refusals = 0

    def _publish(self, publication: Publication) -> None:
        self.refusals -= 1
        self.trouble = "connection refused" if self.refusals >= 0 else None
        super()._publish(publication)


@dataclass
class Case:
    """One operation: the real one as several processes see it, its model, and what was seen of it so far."""

    views: list[Operation]
    looker: Operation
    model: Model
    commits: dict[str, bytes] = field(default_factory=dict)
    results: list[Json] = field(default_factory=list)
    journal_size: int = 0
    last_state: str | None = None
    epoch: int = 1

    @property
    def operation(self) -> Operation:
        return self.views[0]

    @property
    def path(self) -> Path:
        return self.operation.path

    @property
    def steps(self) -> list[Any]:
        return list(self.operation.plan().steps)

    def files(self) -> dict[str, bytes]:
        """All that is in its folder but the journal, which notes what was dropped."""
        found = [path for path in self.path.rglob("*") if path.is_file() and path.name not in ("journal.jsonl", "lock")]
        return {str(path.relative_to(self.path)): path.read_bytes() for path in found}


@dataclass
class Worker:
    """A process that holds a step, or believes so."""

    serial: int
    case: Case
    view: Operation
    held: HeldClaim

    @property
    def place(self) -> int:
        return int(self.held.step.path) - 1

    @property
    def result(self) -> Json:
        return {"step": self.held.step.path, "by": self.serial}

    def ways_to_end(self, due: str | None) -> dict[str, tuple[Callable[[], Settled | Dropped], Callable[[], None]]]:
        """What a worker may do, and what that does to the model where it counts."""
        model, view, held, claim = self.case.model, self.view, self.held, self.held.claim
        failure = Failure(type="ValueError", step=held.step.label, epoch=claim.epoch, attempt=claim.attempt)

        def commit() -> None:
            model.commit()
            self.case.results.append(self.result)

        return {
            "commit": (lambda: commit_step(view, held, self.result, timestamp(view.now())), commit),
            "fail": (lambda: fail_step(view, held, failure), model.fail),
            "retry": (lambda: retry_step(view, held, due, claim.retries + 1), model.retry),
            "release": (lambda: release_step(view, held), model.release),  # at a tap within the step
            "interrupt": (lambda: interrupt_step(view, held, "the worker shuts down"), model.interrupt),
            "give back": (lambda: return_step(view, held, "no space left"), model.give_back),
        }


_pick = st.integers(0, 11)
_ends = st.sampled_from(["commit", "retry", "release", "interrupt", "commit", "give back", "retry", "release", "fail"])
_countdown = st.sampled_from([None, 0, 30, 300])


class Machine(RuleBasedStateMachine):
    """Everything that can happen to a control directory, one thing at a time."""

    def __init__(self) -> None:
        super().__init__()
        shm = "/dev/shm"
        self.folder = Path(tempfile.mkdtemp(prefix="tapfs-model-", dir=shm if os.access(shm, os.W_OK) else None))
        self.bench = MoodyBench(self.folder / "control", recovery=RECOVERY)
        self.everything = Everything()
        self.cases: list[Case] = []
        self.workers: list[Worker] = []
        self.messages: list[Publication] = []
        self.seen = 0
        self.serial = 0
        CLOCK.skew_s = 0.0

    # Picking.

    def case(self, pick: int) -> Case:
        return self.cases[pick % len(self.cases)]

    def case_of(self, operation_id: str) -> Case:
        return next(case for case in self.cases if case.operation.id == operation_id)

    def due(self) -> list[Publication]:
        """The messages that a broker would hand out now, the newest first."""
        return [one for one in reversed(self.messages) if (seconds_of(one.not_before) or 0.0) <= self.bench.now]

    # Operations.

    @initialize(steps=st.integers(1, 6), nth=st.integers(1, 3))
    def first(self, steps: int, nth: int) -> None:
        self.begin(steps, nth, Want.RUN)

    @precondition(lambda self: len(self.cases) < MOST_OPERATIONS)
    @rule(steps=st.integers(1, 6), nth=st.integers(1, 3), want=st.sampled_from([Want.RUN, Want.PAUSE]))
    def start(self, steps: int, nth: int, want: Want) -> None:
        self.begin(steps, nth, want)

    def begin(self, steps: int, nth: int, want: Want) -> None:
        operation = self.bench.start(steps, nth=nth, want=want)
        views = [
            operation,
            *(self.bench.other(operation, actor=actor, recovery=RECOVERY) for actor in ("worker-1", "worker-2")),
        ]
        looker = self.bench.other(operation, publisher=None, actor="looker", recovery=RECOVERY)
        model = Model(steps, nth, self.everything, want=want, shown=want)
        model.settle()
        self.cases.append(Case(views, looker, model))

    # Messages.

    @precondition(lambda self: self.due())
    @rule(pick=st.integers(0, 40), hand=st.integers(1, 2))
    def deliver(self, pick: int, hand: int) -> None:
        """Any message ever published: late, again, out of order."""
        due = self.due()
        self.follow(due[pick % len(due)], hand)

    @precondition(lambda self: self.due())
    @rule(hand=st.integers(1, 2))
    def deliver_the_last(self, hand: int) -> None:
        self.follow(self.due()[0], hand)

    @rule(pick=_pick, hand=st.integers(1, 2))
    def take(self, pick: int, hand: int) -> None:
        """Time passes, a supervisor looks, and a worker takes what an operation has for it."""
        self.take_of(self.case(pick), hand)

    @rule(hand=st.integers(1, 2))
    def take_of_all(self, hand: int) -> None:
        """The same for every operation: rules are picked at random, and most things happen to a step at work."""
        for case in self.cases:
            self.take_of(case, hand)

    def take_of(self, case: Case, hand: int) -> Worker | None:
        self.bench.now += 61.0
        case.operation.reconcile()
        case.model.settle()
        self.take_messages()
        found = [message for message in self.due() if message.operation_id == case.operation.id]
        return self.follow(found[0], hand) if found else None

    def follow(self, message: Publication, hand: int) -> Worker | None:
        """A worker gets a message."""
        case = self.case_of(message.operation_id)
        place = int(message.step.path) - 1
        is_wanted = case.model.accepts(place, message.epoch, message.attempt)
        view = case.views[hand]
        held = claim_step(view, message.step.path, message.epoch, message.attempt, f"{view.actor}@test")
        assert isinstance(held, HeldClaim) == is_wanted, f"{held} of {message}, by the model: {case.model}"
        worker = None
        if isinstance(held, HeldClaim):
            self.serial += 1
            case.model.claim(self.serial)
            worker = Worker(self.serial, case, view, held)
            self.workers.append(worker)
        case.model.settle()
        return worker

    @precondition(lambda self: self.messages)
    @rule(pick=st.integers(0, 40), is_all=st.booleans())
    def lose(self, pick: int, is_all: bool) -> None:
        if is_all:
            self.messages.clear()
        else:
            del self.messages[-1 - pick % len(self.messages)]

    @rule(times=st.integers(0, 4))
    def refuse_messages(self, times: int) -> None:
        """The broker takes nothing, so many times."""
        self.bench.refusals = times

    # Workers, living and given up.

    @precondition(lambda self: self.workers)
    @rule(
        pick=_pick,
        how=_ends,
        countdown_s=_countdown,
    )
    def end(self, pick: int, how: str, countdown_s: int | None) -> None:
        """A worker brings the end of its step; it counts exactly when the model says so."""
        worker = self.workers.pop(pick % len(self.workers))
        case, model = worker.case, worker.case.model
        counts = model.accepts_end(worker.serial)
        before = case.files()
        due = None if countdown_s is None else timestamp(self.bench.now + countdown_s)
        act, effect = worker.ways_to_end(due)[how]
        settled = act()
        assert isinstance(settled, Settled) == counts, f"{settled}, by the model: {model}"
        if counts:
            effect()
            model.settle()
            assert isinstance(settled, Settled)
            assert settled.state is model.state, f"{settled}, by the model: {model}"
        else:
            model.lose(worker.serial)
            assert _but_run(case.files()) == _but_run(before), "a worker that has lost its step has changed something"
        assert not worker.held.is_ours()

    @precondition(lambda self: self.workers)
    @rule(how=_ends, countdown_s=_countdown)
    def end_the_last(self, how: str, countdown_s: int | None) -> None:
        self.end(len(self.workers) - 1, how, countdown_s)

    @rule(pick=_pick, hand=st.integers(1, 2), steps=st.integers(1, 3))
    def work(self, pick: int, hand: int, steps: int) -> None:
        """Whole steps, as it mostly goes."""
        for _ in range(steps):
            if self.take_of(self.case(pick), hand) is not None:
                self.end(len(self.workers) - 1, "commit", None)

    @precondition(lambda self: self.workers)
    @rule(pick=_pick)
    def save(self, pick: int) -> None:
        """A checkpoint; only the holder's is written."""
        worker = self.workers[pick % len(self.workers)]
        out = worker.case.model.out
        is_ours = out is not None and out.holder == worker.serial and out.is_alive
        before = worker.case.files()
        claim = worker.held.claim
        checkpoint = Checkpoint(done=1.0, epoch=claim.epoch, attempt=claim.attempt)
        assert write_checkpoint(worker.view, worker.held, checkpoint) == is_ours
        if is_ours:
            assert out is not None
            out.has_saved = True
        else:
            assert worker.case.files() == before

    @precondition(lambda self: self.workers)
    @rule(pick=_pick)
    def die(self, pick: int) -> None:
        worker = self.workers.pop(pick % len(self.workers))
        worker.held.release()
        worker.case.model.lose(worker.serial)

    @precondition(lambda self: self.workers)
    @rule(pick=_pick)
    def die_in_commit(self, pick: int) -> None:
        """Right behind the `link(2)`: the step is committed, and its claim is still there."""
        worker = self.workers[pick % len(self.workers)]
        model, view, claim = worker.case.model, worker.view, worker.held.claim
        if model.run_is_lost or not model.accepts_end(worker.serial):
            return
        record = Commit(result=worker.result, worker=view.actor, epoch=claim.epoch, attempt=claim.attempt)
        files.create(view.layout.commit(worker.held.step), record.encode())
        worker.held.release()
        self.workers.remove(worker)
        model.commit()
        model.torn = (claim.epoch, claim.attempt)
        worker.case.results.append(worker.result)

    @rule(pick=_pick, hand=st.integers(1, 2), times=st.integers(1, 3), is_retried=st.booleans())
    def take_down(self, pick: int, hand: int, times: int, is_retried: bool) -> None:
        """A step that ends its worker, time after time; or first asks for a retry."""
        if is_retried and self.take_of(self.case(pick), hand) is not None:
            self.end(len(self.workers) - 1, "retry", None)
            self.take_messages()
        for _ in range(times):
            if self.take_of(self.case(pick), hand) is not None:
                self.die(len(self.workers) - 1)

    @precondition(lambda self: self.workers)
    @rule(pick=_pick, hand=st.integers(1, 2), wakes=st.booleans())
    def freeze(self, pick: int, hand: int, wakes: bool) -> None:
        """A worker gives no sign of life, and its step is given away; it stays, and may wake up at any time."""
        worker = self.workers[pick % len(self.workers)]
        case, claim = worker.case, worker.held.claim
        expected = case.model.give_away(worker.place, claim.epoch, claim.attempt)
        given = give_away(case.views[hand], worker.held.step.path, claim.epoch, claim.attempt, "no sign of life")
        assert given == expected, f"by the model: {case.model}"
        if wakes:
            self.save(pick)

    # What others say of a step, also late, twice and of attempts long gone.

    @precondition(lambda self: self.messages)
    @rule(
        pick=st.integers(0, 40),
        hand=st.integers(1, 2),
        what=st.sampled_from(["lost", "pass on", "lost", "pass on", "refuse", "time limit"]),
    )
    def tell(self, pick: int, hand: int, what: str) -> None:
        """The parent of a worker's process tells how that ended, or a worker that leaves gets a message."""
        message = self.messages[-1 - pick % len(self.messages)]
        case = self.case_of(message.operation_id)
        model, view, place = case.model, case.views[hand], int(message.step.path) - 1
        attempt = (message.step.path, message.epoch, message.attempt)
        if what == "lost":
            model.note_loss(place, message.epoch, message.attempt)
            note_loss(view, *attempt, "signal 9 (SIGKILL)")
        elif what == "refuse":
            model.refuse(place, message.epoch, message.attempt)
            refuse(view, *attempt, "NotRegistered", "no such task here")
        elif what == "time limit":
            expected = model.fail_out(place, message.epoch, message.attempt)
            failed = fail_out(view, *attempt, "TimeLimitExceeded", "1 s")
            assert failed == expected, f"{message}, by the model: {model}"
        elif not _is_worn(case, message.step.path):
            expected = model.pass_on(place, message.epoch, message.attempt)
            assert pass_on(view, *attempt) == expected, f"{message}, by the model: {model}"

    @rule(pick=_pick, hand=st.integers(1, 2))
    def tell_of_pause(self, pick: int, hand: int) -> None:
        """The workflow's callback hears of each pause once."""
        case = self.case(pick)
        expected = case.model.tell_of_pause()
        assert take_pause_notice(case.views[hand]) == expected, f"by the model: {case.model}"

    # Time and the supervisor.

    @rule(seconds=st.sampled_from([0.5, 2.0, 11.0, 61.0, 4000.0, -2.0, -7200.0]))
    def pass_time(self, seconds: float) -> None:
        self.bench.now = max(START, self.bench.now + seconds)

    @rule(pick=_pick, hand=st.integers(0, 3))
    def look(self, pick: int, hand: int) -> None:
        """Anyone reconciles: a supervisor, a worker, or somebody who cannot publish."""
        case = self.case(pick)
        view = (*case.views, case.looker)[hand]
        settled = view.reconcile()
        case.model.settle(can_publish=view.publisher is not None)
        assert settled.state is case.model.state, f"{settled}, by the model: {case.model}"

    @rule(pick=_pick)
    def let_settle(self, pick: int) -> None:
        self.settle_down(self.case(pick))

    def settle_down(self, case: Case) -> None:
        """All editors are gone for long, and a supervisor looks until it need not look again."""
        CLOCK.skew_s = 10 * NEVER_S
        try:
            for _ in range(6):
                case.model.is_garbled = False
                settled = case.operation.reconcile()
                case.model.settle()
                if not settled.look_again:
                    break
        finally:
            CLOCK.skew_s = 0.0
        assert not settled.look_again, "it does not settle down"
        assert settled.state is case.model.state, f"{settled}, by the model: {case.model}"
        assert (case.operation.control.active / case.operation.id).exists() == (settled.state not in FINAL)
        faults = [found for found in inspect(case.operation) if found.severity == "fault"]
        assert not faults, faults
        left = [path.name for path in case.path.rglob(".*")]
        assert not left, f"left behind: {left}"

    # People.

    @rule(
        pick=_pick,
        hand=st.integers(0, 1),
        verb=st.sampled_from(["resume", "pause", "resume", "pause", "resume", "cancel"]),
    )
    def ask(self, pick: int, hand: int, verb: str) -> None:
        """A verb says what it changed, and what is true after it."""
        case = self.case(pick)
        view = (case.views[0], case.looker)[hand]
        expected = getattr(case.model, verb)(can_publish=view.publisher is not None)
        answer: Answer | None = None
        with suppress(Refused):
            answer = getattr(view, verb)("because")
        assert (None if answer is None else answer.changed) == expected, f"{answer}, by the model: {case.model}"
        assert answer is None or answer.state == case.model.state, f"{answer}, by the model: {case.model}"

    @rule(pick=_pick, hand=st.integers(0, 1))
    def hold(self, pick: int, hand: int) -> None:
        """Paused and resumed: where nothing runs, a new epoch, and all messages are of an old one."""
        self.ask(pick, hand, "pause")
        self.take_messages()
        self.ask(pick, hand, "resume")

    @rule(
        pick=_pick,
        name=st.sampled_from(["PAUSE", "PAUSE", "control/PAUSE", "PAUSE", "control/PAUSE", "CANCEL"]),
        is_there=st.sampled_from([False, True, False]),
    )
    def mark(self, pick: int, name: str, is_there: bool) -> None:
        case = self.case(pick)
        marker = self.bench.control.layout.pause if name == "control/PAUSE" else case.path / name
        if is_there:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)
        if name == "control/PAUSE":
            self.everything.is_paused = is_there
        elif is_there:
            case.model.markers.add(name)
        else:
            case.model.markers.discard(name)

    @precondition(lambda self: self.workers)
    @rule(pick=_pick, name=st.sampled_from(["PAUSE", "CANCEL"]))
    def mark_for_a_moment(self, pick: int, name: str) -> None:
        """While a step runs: a pause is taken back, a cancel is not."""
        case = self.workers[pick % len(self.workers)].case
        for is_there in (True, False):
            self.mark(self.cases.index(case), name, is_there)
            case.operation.reconcile()
            case.model.settle()

    @rule(
        pick=_pick,
        want=st.sampled_from([Want.RUN, Want.PAUSE, Want.RUN, Want.PAUSE, Want.RUN, Want.CANCEL]),
        write=st.sampled_from([in_place, by_rename]),
        is_whole=st.booleans(),
    )
    def edit(self, pick: int, want: Want, write: Callable[[Path, str], None], is_whole: bool) -> None:
        """`want` changed by an editor, in the whole file or as all that it says."""
        case = self.case(pick)
        target = case.operation.layout.state
        document = {}
        if is_whole:
            with suppress(OSError, ValueError):
                document = json.loads(target.read_bytes())
        write(target, json.dumps({name: document[name] for name in document if name != "wnat"} | {"want": want.value}))
        case.model.shown, case.model.is_garbled, case.model.is_fresh = want, False, False

    @rule(
        pick=_pick,
        name=st.sampled_from(["run.json", "state.json", "active"]),
        how=st.sampled_from(["remove", "empty", "cut", "garbage", "misspelt"]),
    )
    def vandalise(self, pick: int, name: str, how: str) -> None:
        case, model = self.case(pick), self.case(pick).model
        if name == "active":
            (case.operation.control.active / case.operation.id).unlink(missing_ok=True)
            return
        if name == "run.json":
            _spoil_run(case, how)
            return
        path = case.path / name
        _spoil(path, how)
        model.shown, model.is_garbled, model.is_fresh = None, path.exists(), False

    @precondition(lambda self: self.workers)
    @rule(pick=_pick)
    def lose_run(self, pick: int) -> None:
        """Somebody removes `run.json` under a worker's feet: what it was given before is void."""
        _spoil_run(self.workers[pick % len(self.workers)].case, "remove")

    # What always holds.

    @invariant()
    def everything_holds(self) -> None:
        self.take_messages()
        for case in self.cases:
            self.nothing_committed_is_lost_or_changed(case)
            self.the_journal_is_a_path(case)
            self.at_most_one_has_the_step(case)
            self.what_is_out_is_what_the_model_says(case)
            self.the_view_is_the_derived_one(case)

    def take_messages(self) -> None:
        """Each message is of the step that is due, in the epoch, attempt and count of retries that it has."""
        for message in self.bench.published[self.seen :]:
            model = self.case_of(message.operation_id).model
            assert len(message.step.path) == 4
            assert int(message.step.path) == model.done + 1, f"{message}, by the model: {model}"
            shown = (message.epoch, message.attempt, message.retries)
            assert model.out is not None, f"{message}, by the model: {model}"
            assert shown == (model.epoch, model.out.attempt, model.retries), f"{message}, by the model: {model}"
            self.messages.append(message)
        self.seen = len(self.bench.published)

    def nothing_committed_is_lost_or_changed(self, case: Case) -> None:
        folder = str(case.operation.layout.steps)
        names = [name for name in os.listdir(folder) if not name.endswith(".checkpoint.json")]
        commits = {name: Path(folder, name).read_bytes() for name in names}
        for name, content in case.commits.items():
            assert commits.get(name) == content, f"{name} was {content!r}"
        expected = [f"{step.label}.json" for step in case.steps[: case.model.done]]
        assert sorted(commits) == expected, "commits are not what was committed, or no prefix of the plan"
        for name, result in zip(expected, case.results, strict=True):
            assert json.loads(commits[name])["result"] == result
        case.commits = commits

    def the_journal_is_a_path(self, case: Case) -> None:
        """Every transition is a pair of the table, and begins where the last one ended."""
        with open(case.operation.layout.journal, "rb") as stream:
            stream.seek(case.journal_size)
            fresh = stream.read()
        case.journal_size += len(fresh)
        for line in fresh.splitlines():
            entry = json.loads(line)
            case.model.known_epoch = max(case.model.known_epoch, entry.get("epoch") or 0)
            if entry["event"] != "state":
                case.last_state = case.last_state or entry["state"]
                assert entry["state"] == case.last_state, entry
                continue
            assert entry["from"] == case.last_state, entry
            assert State(entry["to"]) in TABLE[State(entry["from"])], entry
            case.last_state = entry["to"]

    def at_most_one_has_the_step(self, case: Case) -> None:
        """And whoever has it is of this epoch: the epoch rises only where nothing runs."""
        valid = [worker for worker in self.workers if worker.case is case and worker.held.is_ours()]
        assert len(valid) <= 1, valid
        assert bool(valid) == case.model.is_held, f"{valid}, by the model: {case.model}"
        if case.model.run_is_lost:
            return
        epoch = Run.read(case.operation.layout.run).epoch
        assert epoch >= case.epoch, "the epoch has fallen"
        assert epoch == case.model.epoch, f"epoch {epoch}, by the model: {case.model}"
        case.epoch = epoch

    def what_is_out_is_what_the_model_says(self, case: Case) -> None:
        if case.model.outcome is not None:  # what a retry has used up may be kept there
            assert not any(out.is_held for out in claims.all_out(case.operation.layout))
            return
        found = []
        for out in claims.all_out(case.operation.layout):
            is_left = case.model.torn is not None and int(out.path) <= case.model.done
            if (claim := out.claim) is not None and not is_left:
                counts = (claim.crashes, claim.interruptions, claim.retries)
                found.append((out.path, claim.epoch, claim.attempt, claim.cause, counts, out.is_held, out.is_dead))
        expected, known = [], case.model.out
        if known is not None:
            path, counts = f"{case.model.done + 1:04d}", (known.crashes, known.interruptions, case.model.retries)
            expected = [(path, known.epoch, known.attempt, known.cause, counts, known.is_held, known.is_dead)]
        assert found == expected, f"by the model: {case.model}"

    def the_view_is_the_derived_one(self, case: Case) -> None:
        """`state.json`, wherever somebody has just reconciled and no edit is in the making."""
        assert case.model.state == case.last_state, f"by the model: {case.model}"
        if not case.model.is_fresh:
            return
        view = json.loads(case.operation.layout.state.read_bytes())
        shown = (view["state"], view["want"], view["epoch"])
        assert shown == (case.model.state, case.model.want, case.model.epoch), f"by the model: {case.model}"

    # The end.

    def teardown(self) -> None:
        try:
            if not self.has_failed():
                self.never_stuck()
        finally:
            for worker in self.workers:
                worker.held.release()
            shutil.rmtree(self.folder, ignore_errors=True)

    def has_failed(self) -> bool:
        """Whether an error is on its way from here, which another must not hide."""
        error = sys.exception()
        frames = traceback.walk_tb(error.__traceback__ if error else None)
        return any(frame.f_locals.get("self") is self for frame, _ in frames)

    def never_stuck(self) -> None:
        """With all holds lifted and every message lost, time and one worker bring each operation to its end."""
        self.take_messages()
        self.messages.clear()
        self.bench.refusals = 0
        for pick, case in enumerate(self.cases):
            for name in ("PAUSE", "CANCEL", "control/PAUSE"):
                self.mark(pick, name, is_there=False)
            self.settle_down(case)
            if case.model.state not in (*FINAL, State.CANCELLING):
                self.ask(pick, 0, "resume")
        while self.workers:
            self.end(0, "commit", None)
        for _ in range(MOST_ROUNDS):
            if all(case.model.state in FINAL for case in self.cases):
                break
            self.go_on()
        for case in self.cases:
            self.it_has_ended_as_asked(case)

    def go_on(self) -> None:
        self.bench.now += 61.0
        for case in self.cases:
            case.operation.reconcile()
            case.model.settle()
        self.take_messages()
        while due := self.due():
            message = due[-1]
            self.messages.remove(message)
            if self.follow(message, 1) is not None:
                self.end(len(self.workers) - 1, "commit", None)
            self.everything_holds()

    def it_has_ended_as_asked(self, case: Case) -> None:
        self.settle_down(case)
        assert case.model.state in FINAL, f"stuck: {case.model}"
        assert case.operation.state is case.model.state
        if case.model.state is State.SUCCEEDED:
            assert case.operation.result == case.results[-1]
            assert len(case.results) == case.model.total
        failure = case.operation.failure()
        assert (failure is not None) == (case.model.state is State.FAILED)


def _spoil_run(case: Case, how: str) -> None:
    _spoil(case.operation.layout.run, how)
    case.model.run_is_lost, case.model.is_fresh = True, False


def _but_run(files: dict[str, bytes]) -> dict[str, bytes]:
    """All but a `run.json` that whoever looks sets aside and makes anew."""
    return {name: content for name, content in files.items() if not name.startswith("run.json")}


def _is_worn(case: Case, path: str) -> bool:
    """Whether a message was passed on so often that it is left to its delay."""
    out = claims.find(case.operation.layout, path)
    return out is not None and out.claim is not None and out.claim.publishes > 5


def _spoil(path: Path, how: str) -> None:
    if how == "remove":
        path.unlink(missing_ok=True)
        return
    content = path.read_bytes() if path.exists() else b""
    spoilt = {"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\x00\xff{", "misspelt": b'{"wnat": 1}'}
    path.write_bytes(spoilt[how])
