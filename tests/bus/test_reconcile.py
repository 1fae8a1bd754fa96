"""Looking at want and state, deciding, acting: idempotent, by anybody, at any time."""

import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support import wait_for
from support.bench import Bench, events, history, snapshot
from tapfs.bus import claims
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.operation import Operation
from tapfs.bus.records import Checkpoint, Failure, Run
from tapfs.bus.runs import read_run
from tapfs.bus.saved import write_checkpoint
from tapfs.bus.states import FINAL, TABLE, State, Want
from tapfs.bus.steps import commit_step, fail_step, release_step
from tapfs.bus.view import VIEW_INTERVAL_S, strays
from tapfs.errors import OperationUnknown, Refused


def settle_down(operation: Operation) -> None:
    wait_for(lambda: not operation.reconcile().look_again, 3.0)


@pytest.mark.parametrize(
    "state",
    ["queued", "running", "pausing", "paused", "interrupted", "cancelling", "succeeded", "failed", "cancelled"],
)
def test_reconciling_again_changes_nothing(bench: Bench, state: str) -> None:
    operation, held = bench.in_state(state)
    settle_down(operation)
    before = snapshot(operation.path)
    for other in (operation, bench.other(operation), bench.other(operation, publisher=None)):
        settled = other.reconcile()
        assert (settled.state, settled.put_out, settled.look_again) == (state, (), False)
    assert snapshot(operation.path) == before
    assert (operation.id in bench.control.active_ids()) == (state not in FINAL)
    del held


@pytest.mark.parametrize("state", ["running", "paused", "interrupted", "cancelling", "failed", "succeeded"])
def test_a_restart_keeps_paused_things_paused_and_running_things_running(bench: Bench, state: str) -> None:
    """B72: nothing but the files is needed."""
    operation, held = bench.in_state(state)
    fresh = bench.other(operation)
    assert fresh.reconcile().state == state
    if state in ("running", "interrupted"):
        if held is not None:
            bench.commit(fresh, held)
        bench.finish(fresh)
    assert fresh.epoch() == 1


@pytest.mark.parametrize("marker", ["PAUSE", "../../PAUSE"])
def test_a_marker_holds_while_it_is_there_and_no_longer(bench: Bench, marker: str) -> None:
    operation = bench.start()
    path = operation.path / marker
    path.write_text("lunch")
    assert operation.reconcile().state is State.PAUSED
    source = "control/PAUSE" if "/" in marker else "PAUSE"
    assert operation.view().message == f"held by {source}: lunch"
    assert operation.view().want == "run", "a marker is not the operation's own want"
    path.unlink()
    assert operation.reconcile().state is State.RUNNING
    assert (operation.epoch(), operation.view().message) == (2, None)


def test_taking_a_marker_away_while_pausing_takes_the_request_back(bench: Bench) -> None:
    """X03."""
    operation = bench.start()
    held = bench.claim(operation)
    (operation.path / "PAUSE").touch()
    assert operation.reconcile().state is State.PAUSING
    (operation.path / "PAUSE").unlink()
    assert operation.reconcile().state is State.RUNNING
    assert operation.epoch() == 1
    bench.commit(operation, held)
    bench.finish(operation)
    assert history(operation) == ["queued", "running", "pausing", "running", "succeeded"]


def test_of_pause_and_cancel_both_there_cancel_wins(bench: Bench) -> None:
    """X03."""
    operation = bench.start()
    held = bench.claim(operation)
    (operation.path / "PAUSE").touch()
    (operation.path / "CANCEL").write_text("enough")
    assert operation.reconcile().state is State.CANCELLING
    (operation.path / "CANCEL").unlink()
    assert operation.reconcile().state is State.CANCELLING, "a cancel is not taken back by taking the marker away"
    assert bench.commit(operation, held).state is State.CANCELLED
    assert events(operation, "state")[-1]["reason"] == "enough"


def test_the_journal_says_who_asked_and_why(bench: Bench) -> None:
    operation = bench.start()
    (operation.path / "PAUSE").write_text("lunch")
    operation.reconcile()
    entry = events(operation, "state")[-1]
    assert (entry["by"], entry["reason"], entry["from"], entry["to"]) == ("file:PAUSE", "lunch", "queued", "paused")
    (operation.path / "PAUSE").unlink()
    operation.reconcile()
    assert events(operation, "state")[-1]["reason"] is None


# ---- the view


def test_the_view_is_written_at_most_once_a_second_while_steps_move(bench: Bench) -> None:
    operation = bench.start(30)
    bench.step(operation)
    seen = []
    for _ in range(10):
        bench.now += VIEW_INTERVAL_S / 4
        bench.step(operation)
        seen.append(operation.state_file.read().content)
    assert 3 <= len(set(seen)) <= 4
    assert operation.view().steps_done < 11


def test_a_change_of_state_is_written_at_once_and_counts_all_steps(bench: Bench) -> None:
    operation = bench.start(30)
    for _ in range(5):
        bench.step(operation)
    operation.pause()
    assert (operation.view().state, operation.view().steps_done, operation.view().step) == ("paused", 5, "0006-one")


def test_the_running_time_counts_while_somebody_is_at_work(bench: Bench) -> None:
    operation = bench.start()
    bench.now += 100
    held = bench.claim(operation)
    bench.now += 7
    operation.pause()
    bench.now += 2
    bench.commit(operation, held)
    bench.now += 1000
    operation.resume()
    bench.now += 1
    bench.finish(operation)
    run = operation.reconcile().run
    assert run.running_s == 10
    assert run.started_at == timestamp(1_800_000_100)
    assert run.finished_at == timestamp(bench.now)


# ---- files that are lost or spoilt


@pytest.mark.parametrize("content", [None, "", '{"epoch": "x"}', '{"outcome": "asleep"}'])
@pytest.mark.parametrize("state", ["queued", "paused", "succeeded", "failed", "cancelled"])
def test_a_run_json_that_is_lost_or_spoilt_is_made_anew_from_the_others(
    bench: Bench, state: str, content: str | None
) -> None:
    operation, _ = bench.in_state(state)
    operation.layout.run.unlink()
    if content is not None:
        operation.layout.run.write_text(content)
    fresh = bench.other(operation)
    settled = fresh.reconcile()
    assert settled.state is (State.RUNNING if state == "queued" else State(state))
    assert "made anew" in (fresh.view().message or "")
    assert (operation.path / "run.json.rejected-1").exists() == (content is not None)
    if state == "queued":
        fresh.reconcile()
        bench.finish(fresh)


def test_a_running_step_of_a_lost_run_json_is_fenced_off_and_run_again(bench: Bench) -> None:
    operation, held = bench.in_state("running")
    assert held is not None
    operation.layout.run.unlink()
    fresh = bench.other(operation)
    assert fresh.reconcile().run.epoch == 2
    commit_step(fresh, held, "old", timestamp(bench.now))
    assert not fresh.is_committed(held.step)
    fresh.reconcile()
    bench.finish(fresh)


@pytest.mark.parametrize("state", ["pausing", "paused", "cancelling"])
def test_with_run_json_and_state_json_both_lost_it_is_held_as_it_was(bench: Bench, state: str) -> None:
    """B50, B72."""
    operation, held = bench.in_state(state)
    operation.layout.run.unlink()
    operation.layout.state.unlink()
    assert bench.other(operation).reconcile().state == state
    if held is not None:
        held.release()
        assert bench.other(operation).reconcile().state is (State.CANCELLED if state == "cancelling" else State.PAUSED)


def test_two_spoilt_run_json_are_both_kept(bench: Bench) -> None:
    operation = bench.start()
    for number in (1, 2):
        operation.layout.run.write_text(f"spoilt {number}")
        read_run(operation)
        assert (operation.path / f"run.json.rejected-{number}").read_text() == f"spoilt {number}"


def test_a_lost_journal_costs_the_history_and_nothing_else(bench: Bench) -> None:
    operation = bench.start()
    bench.step(operation)
    operation.layout.journal.unlink()
    operation.pause()
    assert history(operation) == ["running", "pausing", "paused"]
    operation.resume()
    bench.finish(operation)


def test_one_spoilt_operation_leaves_the_others_alone(bench: Bench) -> None:
    """X05."""
    spoilt, other = bench.start(), bench.start()
    for name in ("state.json", "run.json", "journal.jsonl"):
        (spoilt.path / name).write_bytes(os.urandom(1000))
    bench.finish(other)
    bench.other(spoilt).reconcile()
    assert spoilt.id in bench.control.active_ids()


# ---- a step that kills its workers


def test_a_step_that_takes_down_every_worker_fails_with_that_reason(bench: Bench) -> None:
    operation = bench.start()
    for _ in range(3):
        bench.claim(operation).release()
        operation.reconcile()
    assert operation.state is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert (failure.type, failure.step, failure.attempt) == ("WorkerLost", "0001-one", 3)
    assert "took down its worker 3 times without getting further; the last was worker@test" in failure.message
    assert operation.reconcile().run.interruptions == 3
    assert claims.all_out(operation.layout) == []


def test_a_step_that_saves_progress_may_lose_its_worker_as_often_as_it_likes(bench: Bench) -> None:
    """B67: only deaths without progress in between count."""
    operation = bench.start()
    for _ in range(8):
        held = bench.claim(operation)
        assert write_checkpoint(
            operation, held, Checkpoint(done=1.0, epoch=held.claim.epoch, attempt=held.claim.attempt)
        )
        held.release()
        operation.reconcile()
        assert operation.state is State.INTERRUPTED
    bench.finish(operation)
    assert operation.state is State.SUCCEEDED


# ---- what cannot be seen is not taken for what is not there


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make everything below a folder impossible to look at, as `chmod 000` or an input error does."""
    real = os.lstat

    def hide(folder: Path) -> None:
        def lstat(path: str | Path, **options: Any) -> os.stat_result:
            if Path(path).is_relative_to(folder) and Path(path) != folder:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, **options)

        monkeypatch.setattr(os, "lstat", lstat)

    return hide


def test_a_committed_step_that_cannot_be_seen_is_not_run_again(bench: Bench, blind: Callable[[Path], None]) -> None:
    """B25."""
    operation = bench.start(3)
    bench.commit(operation, bench.claim(operation))
    published = len(bench.published)
    fresh = bench.other(operation)
    blind(operation.layout.steps)
    with pytest.raises(PermissionError):
        fresh.reconcile()
    assert len(bench.published) == published


def test_an_operation_that_cannot_be_seen_is_not_taken_for_one_that_is_gone(
    bench: Bench, blind: Callable[[Path], None]
) -> None:
    operation = bench.start()
    blind(operation.path)
    with pytest.raises(PermissionError):
        bench.other(operation).reconcile()


def test_nothing_comes_back_of_an_operation_that_was_removed(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    shutil.rmtree(operation.path)
    with pytest.raises(OperationUnknown):
        commit_step(operation, held, 1, timestamp(bench.now))
    with pytest.raises(FileNotFoundError):
        claims.put_out(operation.layout, "0001", held.claim)
    operation.path.mkdir()  # rm is at it: the folder is there, its files are gone
    with pytest.raises(OperationUnknown):
        read_run(operation)
    assert list(operation.path.iterdir()) == []


# ---- misspelt markers


def test_a_flood_of_stray_files_is_mentioned_ten_times_at_most(bench: Bench) -> None:
    operation = bench.start()
    for number in range(300):
        (operation.path / f"pause.{number}").touch()
        (operation.path / f"pause.{number}.{'x' * 200}").touch()
    for _ in range(3):
        operation.reconcile()
    assert len(events(operation, "hint")) == 10
    assert len((operation.path / "run.json").read_bytes()) < 2000
    bench.finish(operation)


def test_a_file_that_looks_like_a_misspelt_marker_is_mentioned_once(bench: Bench) -> None:
    operation = bench.start()
    for name in ("pause", "CANCLE", "Stop.txt", "notes.md"):
        (operation.path / name).touch()
    for _ in range(3):
        assert operation.reconcile().state is State.QUEUED
    assert strays(operation) == [("CANCLE", "CANCEL"), ("Stop.txt", "PAUSE"), ("pause", "PAUSE")]
    assert sorted(entry["file"] for entry in events(operation, "hint")) == ["CANCLE", "Stop.txt", "pause"]
    assert "'pause' asks for nothing" in " ".join(entry["message"] for entry in events(operation, "hint"))


# ---- everything in any order


@dataclass
class Walk:
    """An operation to which anything may happen at any time, by a seeded chance."""

    bench: Bench
    chance: random.Random
    held: list[HeldClaim] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.operation = self.bench.start(5, nth=self.chance.choice([1, 1, 2]))

    def go(self, moves: int) -> None:
        names = [name for name in dir(self) if name.startswith("may_")]
        for _ in range(moves):
            name = self.chance.choice(names)
            self.trail.append(name)
            getattr(self, name)()
            self.check()

    def check(self) -> None:
        """What holds at every instant."""
        settled = self.bench.other(self.operation).reconcile()
        before, transitions = None, [entry for entry in self.operation.journal.entries() if "to" in entry]
        for entry in transitions:
            to = State(entry["to"])
            assert before is None or to in TABLE[before], f"{before} became {to}: {self.trail}"
            before = to
        assert settled.state is before
        out = claims.all_out(self.operation.layout)
        assert sum(one.is_held for one in out) <= 1
        if settled.state in FINAL or settled.state is State.PAUSED:
            assert out == []
        view = self.operation.state_file.read().view
        assert view is not None
        assert (view.state, view.epoch, view.want) == (settled.state, settled.run.epoch, settled.run.want)

    def may_take_any_message(self) -> None:
        message = self.chance.choice(self.bench.published)
        held = claim_step(self.operation, message.step.path, message.epoch, message.attempt, "w")
        if isinstance(held, HeldClaim):
            self.held.append(held)

    may_take_another_message = may_take_any_message

    def may_take_the_last_message(self) -> None:
        held = self.bench.take(self.operation)
        if isinstance(held, HeldClaim):
            self.held.append(held)

    may_take_the_last_message_too = may_take_the_last_message

    def may_commit(self) -> None:
        if self.held:
            commit_step(self.operation, self.held.pop(), None, timestamp(self.bench.now))

    may_commit_too = may_commit

    def may_give_back(self) -> None:
        if self.held:
            release_step(self.operation, self.held.pop())

    def may_die(self) -> None:
        if self.held:
            self.held.pop().release()

    def may_fail(self) -> None:
        if self.held and self.chance.random() < 0.2:
            fail_step(self.operation, self.held.pop(), Failure(type="ValueError"))

    def may_wait(self) -> None:
        self.bench.now += self.chance.choice([1, 30, 90])

    def may_lose_a_message(self) -> None:
        if len(self.bench.published) > 1:
            self.bench.published.pop()

    def may_pause(self) -> None:
        self._ask("pause")

    def may_resume(self) -> None:
        self._ask("resume")

    may_resume_too = may_resume

    def may_cancel(self) -> None:
        if self.chance.random() < 0.2:
            self._ask("cancel")

    def _ask(self, verb: str) -> None:
        before = self.bench.other(self.operation).reconcile().state
        try:
            answer = getattr(self.bench.other(self.operation), verb)(self.chance.choice([None, "why"]))
        except Refused:
            assert before in FINAL or before is State.CANCELLING
        else:
            assert answer.changed or answer.state == before

    def may_mark(self) -> None:
        marker = self.operation.path / self.chance.choice(["PAUSE", "PAUSE", "../../PAUSE"])
        if marker.exists():
            marker.unlink()
        else:
            marker.touch()

    may_mark_again = may_mark

    def may_edit(self) -> None:
        want = self.chance.choice(["run", "run", "pause"])
        self.operation.layout.state.write_text(f'{{"want": "{want}", "reason": "edit"}}')

    def may_lose_run_json(self) -> None:
        if self.chance.random() < 0.1 and self.operation.reconcile().run.want != Want.CANCEL:
            self.operation.layout.run.unlink()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_in_whatever_order_every_transition_is_listed_and_it_ends(bench: Bench, seed: int) -> None:
    """B107, laws 1 and 10."""
    seed = seed + 1000 * int(os.environ.get("SEED", "0"))
    print("seed", seed)
    walk = Walk(bench, random.Random(seed))
    walk.go(60)
    print(walk.trail)
    operation = walk.operation
    for marker in (operation.path / "PAUSE", bench.path / "PAUSE"):
        marker.unlink(missing_ok=True)
    for held in walk.held:
        commit_step(operation, held, None, timestamp(bench.now))
    for _ in range(60):
        state = operation.reconcile().state
        if state is State.SUCCEEDED:
            break
        if state is not State.CANCELLING:
            operation.resume()
        held = bench.take(operation)
        if isinstance(held, HeldClaim):
            bench.commit(operation, held)
        bench.now += 61
    assert operation.state is State.SUCCEEDED
    commits = sorted(path.name for path in operation.layout.steps.iterdir())
    assert commits == [f"000{number}-one.json" for number in range(1, 6)]


def test_an_operation_becomes_inactive_only_when_no_edit_can_come_any_more(bench: Bench) -> None:
    operation = bench.start(1)
    with operation.layout.state.open("r+"):
        bench.step(operation)
        time.sleep(0.15)
        assert operation.reconcile().look_again
        assert operation.id in bench.control.active_ids()
    settle_down(operation)
    assert operation.id not in bench.control.active_ids()


def test_the_run_record_says_nothing_that_is_not_so(bench: Bench) -> None:
    operation = bench.start(1)
    bench.finish(operation)
    assert Run.read(operation.layout.run).outcome == "succeeded"
    assert Run.read(operation.layout.run).running_since is None


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{"), lambda path: path.write_bytes(b"")])
def test_an_operation_whose_plan_cannot_be_read_is_said_and_can_be_cancelled(
    bench: Bench, spoil: Callable[[Path], object]
) -> None:
    """Law 10: every state has a way out; nothing is run and nothing counts as done meanwhile."""
    operation = bench.start()
    published = len(bench.published)
    spoil(operation.layout.plan)
    fresh = bench.other(operation)
    fresh.reconcile()
    assert fresh.state == "queued"
    assert "nothing can be run" in (fresh.view().message or "")
    assert len(bench.published) == published
    assert fresh.cancel().state == "cancelled"


def test_a_spoilt_last_commit_fails_the_operation_and_resume_goes_on_once_it_is_mended(bench: Bench) -> None:
    operation = bench.start(steps=1)
    held = bench.claim(operation)
    commit = operation.layout.commit(held.step)
    held.release()
    commit.write_text("{")
    fresh = bench.other(operation)
    assert fresh.reconcile().state == "failed"
    failure = fresh.failure()
    assert failure is not None
    assert failure.type == "RecordInvalid"
    assert str(commit) in failure.message
    commit.write_text('{"result": 7, "epoch": 1, "attempt": 1}')
    assert fresh.resume().state == "succeeded"
    assert fresh.result == 7
    assert (operation.layout.attic / "epoch-1" / "error.json").exists()


def test_an_error_that_a_dead_worker_left_is_put_aside_when_the_operation_succeeds(bench: Bench) -> None:
    """A worker that died between writing `error.json` and `run.json` has failed nothing."""
    operation = bench.start(steps=1)
    operation.layout.error.write_text('{"type": "ValueError"}')
    bench.finish(operation)
    assert operation.state == "succeeded"
    assert operation.failure() is None
    assert (operation.layout.attic / "epoch-1" / "error.json").exists()
