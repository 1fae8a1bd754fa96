"""Holders of claims that give no sign of life: as one observer sees them, by its own clock."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bench import Bench, events
from tapfs.bus.begin import Dropped
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.losses import give_away
from tapfs.bus.operation import Operation
from tapfs.bus.steps import commit_step
from tapfs.flow.silence import Silence, Stillness


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


@pytest.fixture
def silence() -> Silence:
    return Silence(60.0, 4.0)


def looks(silence: Silence, operation: Operation, *times: float) -> list[list[str]]:
    """The paths of those too silent, at each of some times."""
    return [[out.path for out in silence.look(operation.layout, now)] for now in times]


def every(step_s: float, until_s: float, start: float = 0.0) -> Iterator[float]:
    return (start + step_s * number for number in range(int(until_s / step_s) + 1))


def test_a_holder_that_gives_no_sign_for_the_limit_is_silent_and_stays_so(bench: Bench, silence: Silence) -> None:
    operation = bench.start()
    bench.claim(operation)
    found = looks(silence, operation, *every(2, 70))
    assert found == [[]] * 30 + [["0001"]] * 6


def test_a_sign_of_life_starts_the_count_anew(bench: Bench, silence: Silence) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    for start in (0.0, 1000.0, 2000.0):
        assert not any(looks(silence, operation, *every(2, 58, start)))
        held.give_sign()
    assert any(looks(silence, operation, *every(2, 70, 3000.0)))


def test_whoever_writes_into_the_claim_gives_a_sign_too(bench: Bench, silence: Silence) -> None:
    """B73: better waited for than taken from one that lives."""
    operation = bench.start()
    bench.claim(operation)
    assert not any(looks(silence, operation, *every(2, 58)))
    operation.layout.claim("0001").write_text("scribble")
    assert not any(looks(silence, operation, *every(2, 58, 60)))


def test_time_that_the_observer_slept_through_hardly_counts(bench: Bench, silence: Silence) -> None:
    """The machine was suspended, and the holders with it."""
    operation = bench.start()
    bench.claim(operation)
    assert looks(silence, operation, 0, 100_000, 200_000) == [[], [], []]
    found = looks(silence, operation, *every(100_000, 1_400_000, 300_000))
    assert found.index(["0001"]) == 12, "each look counts for 4 s"


def test_a_step_that_nobody_holds_is_not_silent(bench: Bench, silence: Silence) -> None:
    operation = bench.start()
    assert not any(looks(silence, operation, *every(2, 200)))
    bench.claim(operation).release()
    assert not any(looks(silence, operation, *every(2, 200, 200))), "its death is seen by its lock"


def test_the_silence_of_one_holder_is_not_that_of_the_next(bench: Bench, silence: Silence) -> None:
    operation = bench.start()
    first = bench.claim(operation)
    assert not any(looks(silence, operation, *every(2, 58)))
    first.release()
    operation.reconcile()
    bench.claim(operation)
    assert not any(looks(silence, operation, *every(2, 58, 60)))
    assert looks(silence, operation, 120, 122) == [["0001"], ["0001"]]


def test_operations_are_told_apart_and_forgotten_when_nothing_of_them_runs(bench: Bench, silence: Silence) -> None:
    one, other = bench.start(), bench.start()
    held = [bench.claim(operation) for operation in (one, other)]
    for now in every(2, 58):
        held[1].give_sign()
        assert looks(silence, one, now) == looks(silence, other, now) == [[]]
    assert looks(silence, one, 60) == [["0001"]]
    assert looks(silence, other, 60) == [[]]
    silence.forget(one.id)
    silence.forget("never seen")
    assert not any(looks(silence, one, *every(2, 58, 62)))
    held[0].release()
    looks(silence, one, 122)
    assert silence._seen.keys() == {other.id}


def test_a_frozen_holder_loses_its_step_and_what_it_brings_when_it_wakes_is_refused(
    bench: Bench, silence: Silence
) -> None:
    """B65; all that a supervisor does about it."""
    operation = bench.start()
    held = bench.claim(operation)
    for now in every(2, 60):
        for out in silence.look(operation.layout, now):
            assert out.claim is not None
            give_away(operation, out.path, out.claim.epoch, out.claim.attempt, "no sign of life for 60 s")
    follower = bench.claim(operation)
    held.give_sign()  # it wakes: its sign is on a file that is not the claim any more
    assert follower.is_ours()
    assert isinstance(commit_step(operation, held, "late", timestamp(bench.now)), Dropped)
    assert [line["reason"] for line in events(operation, "lost")] == ["no sign of life for 60 s"]
    bench.commit(operation, follower, "in time")
    assert operation.result_of(follower.step) == "in time"
    bench.finish(operation)


def test_an_operation_that_is_removed_meanwhile_has_no_silent_holder(bench: Bench, silence: Silence) -> None:
    operation = bench.start()
    bench.claim(operation)
    looks(silence, operation, *every(2, 58))
    os.rename(operation.path, bench.path.parent / "elsewhere")
    assert looks(silence, operation, 60) == [[]]


def test_signs_of_a_released_claim_go_nowhere(bench: Bench) -> None:
    operation = bench.start()
    held: HeldClaim = bench.claim(operation)
    held.release()
    before = os.stat(operation.layout.claim("0001")).st_mtime_ns
    held.give_sign()
    assert os.stat(operation.layout.claim("0001")).st_mtime_ns == before


# Any sign, not only that of a claim


def test_stillness_counts_the_seconds_for_which_a_sign_was_seen_unchanged() -> None:
    stillness, one, other = Stillness(4.0), (1, 2, 3, 4), (1, 2, 3, 5)
    assert [stillness.look(one, now) for now in (100.0, 101.0, 103.0)] == [0.0, 1.0, 3.0]
    assert [stillness.look(other, now) for now in (104.0, 104.5)] == [0.0, 0.5]
    assert [stillness.look(one, now) for now in (105.0, 106.0)] == [0.0, 1.0]
    assert stillness.look(one, 1_000_000.0) == 5.0, "what was slept through hardly counts"


def test_a_sign_that_is_not_there_is_still_too_until_one_comes() -> None:
    stillness = Stillness(4.0)
    assert [stillness.look(None, now) for now in (0.0, 3.0, 6.0)] == [0.0, 3.0, 6.0]
    assert stillness.look((1, 2, 3, 4), 7.0) == 0.0
