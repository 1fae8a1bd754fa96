"""Ending the process of a step that does not come to a tap; the holders here are real processes."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from support.bench import Bench, events, history, snapshot
from support.mortal import deaths
from tapfs.bus import force as force_module
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.operation import Operation
from tapfs.bus.records import Checkpoint, Claim
from tapfs.bus.saved import read_checkpoint, write_checkpoint
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step
from tapfs.bus.workers import WorkerFolder
from tapfs.errors import Refused

STOPS = {"pausing": State.PAUSED, "cancelling": State.CANCELLED}
Hold = Callable[[Operation], int]


@pytest.fixture
def hold(bench: Bench) -> Iterator[Hold]:
    """Have a child claim what was published last, save a place, and never come to a tap; returns its process id."""
    children: list[int] = []

    def hold(operation: Operation) -> int:
        last = bench.published[-1]
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                other = bench.other(operation)
                held = claim_step(other, last.step.path, last.epoch, last.attempt, "stuck@test")
                assert isinstance(held, HeldClaim)
                saved = Checkpoint(folds=[], done=7.0, epoch=last.epoch, attempt=last.attempt)
                assert write_checkpoint(other, held, saved)
                os.write(write, b".")
                while True:
                    signal.pause()
            finally:
                os._exit(1)
        children.append(child)
        os.close(write)
        assert os.read(read, 1) == b"."
        os.close(read)
        return child

    yield hold
    for child in children:
        if not has_ended(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:
        return True


def end_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stuck(bench: Bench, hold: Hold, state: str) -> tuple[Operation, int]:
    """An operation that is to stop while a process holds its step."""
    operation = bench.start()
    child = hold(operation)
    operation.pause() if state == "pausing" else operation.cancel()
    assert operation.state == state
    return operation, child


def name_as_holder(operation: Operation, **changes: object) -> None:
    """Have the claim, which keeps its lock, name another holder."""
    path = operation.layout.claim("0001")
    claim = Claim.read(path)
    assert claim.holder is not None
    path.write_bytes(replace(claim, holder=claim.holder | changes).encode())


@pytest.mark.parametrize("state", sorted(STOPS))
def test_before_the_grace_is_over_nothing_is_ended_and_after_it_the_process_is(
    bench: Bench, hold: Hold, state: str
) -> None:
    """B19, B49."""
    operation, child = stuck(bench, hold, state)
    bench.now += 9.9
    before = snapshot(operation.path)
    with pytest.raises(Refused, match=rf"cannot force operation '{operation.id}' yet: it is {state} for 9\.9 s only"):
        operation.force()
    assert snapshot(operation.path) == before
    assert not has_ended(child)
    bench.now += 0.1
    answer = operation.force()
    assert end_of(child) == -signal.SIGKILL
    assert (answer.success, answer.changed, answer.state) == (True, True, STOPS[state])
    assert f"process {child} of step 0001" in answer.message
    assert "was ended" in answer.message
    assert operation.state is STOPS[state]
    assert history(operation) == ["queued", "running", state, STOPS[state]]
    (lost,) = events(operation, "lost")
    assert (lost["worker"], lost["reason"]) == ("stuck@test", "force by test")
    assert len(bench.published) == 1


@pytest.mark.parametrize("state", sorted(STOPS))
def test_forcing_again_ends_nothing_more_and_changes_nothing(bench: Bench, hold: Hold, state: str) -> None:
    """B19, B49."""
    operation, _ = stuck(bench, hold, state)
    operation.force(0)
    before = snapshot(operation.path)
    with pytest.raises(Refused, match=f"cannot force operation '{operation.id}': it is {STOPS[state]}") as caught:
        operation.force(0)
    assert caught.value.hint == "ask it to pause or to be cancelled first"
    assert snapshot(operation.path) == before


@pytest.mark.parametrize("state", ["queued", "running", "paused", "interrupted", "succeeded", "failed", "cancelled"])
def test_only_what_is_asked_to_stop_can_be_forced(bench: Bench, state: str) -> None:
    operation, held = bench.in_state(state)
    operation.reconcile()
    before = snapshot(operation.path)
    with pytest.raises(Refused, match=f"it is {state}"):
        operation.force(0)
    assert snapshot(operation.path) == before
    assert held is None or held.is_ours()


@pytest.mark.parametrize("state", sorted(STOPS))
def test_what_was_saved_before_the_force_is_gone_on_with_and_the_rest_is_done_again(
    bench: Bench, hold: Hold, state: str
) -> None:
    operation, _ = stuck(bench, hold, state)
    operation.force(0)
    operation.resume()
    held = bench.claim(operation)
    found = read_checkpoint(operation, held)
    assert found is not None
    assert found.done == 7.0
    bench.commit(operation, held)
    bench.finish(operation)


def test_the_grace_counts_from_when_the_stop_was_asked_last(bench: Bench, hold: Hold) -> None:
    operation, child = stuck(bench, hold, "pausing")
    bench.now += 60
    operation.resume()
    bench.now += 60
    operation.pause()
    bench.now += 5
    with pytest.raises(Refused, match=r"it is pausing for 5\.0 s only"):
        operation.force()
    assert not has_ended(child)


def test_the_grace_of_a_cancel_is_its_own_and_not_that_of_the_pause_before_it(bench: Bench, hold: Hold) -> None:
    operation, child = stuck(bench, hold, "pausing")
    bench.now += 60
    operation.cancel()
    with pytest.raises(Refused, match=r"it is cancelling for 0\.0 s only"):
        operation.force()
    assert not has_ended(child)


def test_a_lost_journal_does_not_end_a_process_before_its_time(bench: Bench, hold: Hold) -> None:
    operation, child = stuck(bench, hold, "pausing")
    bench.now += 60
    operation.layout.journal.unlink()
    with pytest.raises(Refused, match="yet"):
        operation.force()
    bench.now += 10
    operation.force()
    assert end_of(child) == -signal.SIGKILL


def test_a_marker_that_nobody_has_looked_at_yet_is_a_stop_that_has_only_begun(bench: Bench, hold: Hold) -> None:
    operation = bench.start()
    child = hold(operation)
    (operation.path / "PAUSE").touch()
    with pytest.raises(Refused, match=r"it is pausing for 0\.0 s only"):
        operation.force()
    assert not has_ended(child)
    bench.now += 10
    operation.force()
    assert operation.state is State.PAUSED


def test_a_step_that_came_to_its_tap_meanwhile_has_stopped_by_itself(bench: Bench) -> None:
    operation, held = bench.in_state("pausing")
    assert held is not None
    bench.now += 60
    held.release()
    with pytest.raises(Refused, match="it is paused"):
        operation.force()


@pytest.mark.parametrize("state", sorted(STOPS))
def test_a_process_of_another_host_is_not_touched_but_nothing_it_does_counts(bench: Bench, state: str) -> None:
    """Also where this machine has a process of that number: here it is the test's own."""
    operation, held = bench.in_state(state)
    assert held is not None
    name_as_holder(operation, host="elsewhere.example.org")
    answer = operation.force(0)
    assert f"process {os.getpid()} of step 0001 on elsewhere.example.org could not be ended from here" in answer.message
    assert (answer.changed, answer.state) == (True, STOPS[state])
    assert isinstance(commit_step(operation, held, "late", timestamp(bench.now)), Dropped)
    assert operation.state is STOPS[state]
    operation.resume()
    bench.finish(operation)


def test_a_process_that_only_got_the_holders_number_is_not_ended(bench: Bench, hold: Hold) -> None:
    """Numbers are used again: the one to be ended has the claim's file open."""
    bystander = hold(bench.start())
    operation, held = bench.in_state("cancelling")
    assert held is not None
    name_as_holder(operation, pid=bystander)
    assert "could not be ended from here" in operation.force(0).message
    assert not has_ended(bystander)
    name_of_none = bench.start()
    held = bench.claim(name_of_none)
    name_of_none.cancel()
    name_as_holder(name_of_none, pid=2**22 + 1)
    assert "could not be ended from here" in name_of_none.force(0).message
    assert name_of_none.state is State.CANCELLED


@pytest.mark.parametrize(
    "scribble", [b"scribble", b'{"epoch": 1, "attempt": 1, "holder": {"pid": "?"}}'], ids=["text", "holder"]
)
def test_a_held_claim_that_somebody_wrote_into_does_not_keep_an_operation_from_being_forced(
    bench: Bench, hold: Hold, scribble: bytes
) -> None:
    """Law 10: every state has a way out. Who holds it cannot be read, so its process is not ended."""
    operation, child = stuck(bench, hold, "cancelling")
    operation.layout.claim("0001").write_bytes(scribble)
    answer = operation.force(0)
    assert (operation.state, answer.changed) == (State.CANCELLED, True)
    assert "step 0001 could not be ended from here" in answer.message
    assert not has_ended(child)
    operation.resume()
    bench.finish(operation)


def test_a_frozen_process_is_ended_too(bench: Bench, hold: Hold) -> None:
    operation, child = stuck(bench, hold, "pausing")
    os.kill(child, signal.SIGSTOP)
    operation.force(0)
    assert end_of(child) == -signal.SIGKILL
    assert operation.state is State.PAUSED


def test_the_claim_is_taken_before_the_process_is_ended(
    bench: Bench, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing that it does in between counts."""
    operation, child = stuck(bench, hold, "pausing")
    seen = []
    kill = os.kill

    def watch(pid: int, number: int) -> None:
        seen.append((pid, number, operation.state, list(operation.layout.claims.iterdir())))
        kill(pid, number)

    monkeypatch.setattr(force_module.os, "kill", watch)
    operation.force(0)
    assert seen == [(child, signal.SIGKILL, State.PAUSED, [])]


def test_death_at_any_write_of_a_force_leaves_what_can_be_forced_again_or_has_stopped(bench: Bench, hold: Hold) -> None:
    """B49: the one who forces may die, too."""
    for operation in deaths(lambda: stuck(bench, hold, "cancelling")[0], lambda one: bench.other(one).force(0)):
        if operation.reconcile().state is State.CANCELLING:
            operation.force(0)
        assert operation.state is State.CANCELLED
        operation.resume()
        bench.finish(operation)


@pytest.mark.parametrize("kind", ["a worker itself", "tapfs run"])
def test_a_process_that_does_other_work_too_is_left_but_what_it_does_for_the_step_counts_no_more(
    bench: Bench, kind: str
) -> None:
    """A pool of threads, a solo pool, somebody's terminal: other steps must not be ended with this one."""
    operation = bench.start()
    folder = WorkerFolder.enter(bench.control.layout, "threads@here", bench.now) if kind == "a worker itself" else None
    last = bench.published[-1]
    name = "foreground@ada" if folder is None else folder.name
    held = claim_step(operation, last.step.path, last.epoch, last.attempt, name)
    assert isinstance(held, HeldClaim)
    operation.pause()
    answer = bench.other(operation).force(0)
    assert (answer.changed, answer.state) == (True, State.PAUSED)
    assert f"process {os.getpid()}" in answer.message
    assert "does other work, too, and was left" in answer.message
    assert isinstance(commit_step(operation, held, 1, timestamp(bench.now)), Dropped)
