"""Signs of life on the claims that a process holds."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import wait_for
from support.bench import Bench
from tapfs.bus.claims import HeldClaim, find
from tapfs.bus.operation import Operation
from tapfs.flow import pulse
from tapfs.flow.pulse import signs_of_life


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the test's own, with a sign every few milliseconds."""
    monkeypatch.setattr(pulse, "INTERVAL_S", 0.01)
    monkeypatch.setattr(pulse, "_pulse", pulse._Pulse())


@pytest.fixture
def ticking(bench: Bench) -> Iterator[Operation]:
    """An operation whose claim gets signs: as long as one comes here, the thread is at work."""
    operation = bench.start()
    with signs_of_life(bench.claim(operation)):
        yield operation


def sign_of(operation: Operation) -> object:
    out = find(operation.layout, "0001")
    assert out is not None
    return out.sign


def wait_for_signs(operation: Operation, count: int = 2) -> None:
    """Wait until so many more signs were seen on it."""
    for _ in range(count):
        before = sign_of(operation)
        wait_for(lambda before=before: sign_of(operation) != before, message="no sign of life")


def test_a_claim_gets_signs_while_its_step_runs_and_none_after(bench: Bench, ticking: Operation) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    before = sign_of(operation)
    wait_for_signs(ticking)
    assert sign_of(operation) == before, "nobody has said that its step runs"
    with signs_of_life(held):
        wait_for_signs(operation)
    wait_for_signs(ticking, 1)  # a sign that was under way has arrived
    before = sign_of(operation)
    wait_for_signs(ticking, 3)
    assert sign_of(operation) == before
    assert held.is_ours()


def test_a_step_that_raises_gets_no_more_signs(bench: Bench, ticking: Operation) -> None:
    operation = bench.start()
    with pytest.raises(KeyboardInterrupt), signs_of_life(bench.claim(operation)):
        raise KeyboardInterrupt
    wait_for_signs(ticking, 1)
    before = sign_of(operation)
    wait_for_signs(ticking, 3)
    assert sign_of(operation) == before


def test_one_thread_gives_the_signs_of_all_claims_of_a_process(bench: Bench, ticking: Operation) -> None:
    operations = [bench.start() for _ in range(5)]
    held = [bench.claim(operation) for operation in operations]
    before = [thread for thread in threading.enumerate() if thread.name == "tapfs-pulse"]
    with (
        signs_of_life(held[0]),
        signs_of_life(held[1]),
        signs_of_life(held[2]),
        signs_of_life(held[3]),
        signs_of_life(held[4]),
    ):
        for operation in operations:
            wait_for_signs(operation, 1)
        assert [thread for thread in threading.enumerate() if thread.name == "tapfs-pulse"] == before


def test_a_claim_that_cannot_be_touched_takes_the_signs_from_no_other(
    bench: Bench, ticking: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    operation = bench.start()

    class Broken(HeldClaim):
        def give_sign(self) -> None:
            raise OSError(5, "Input/output error")

    held = bench.claim(operation)
    with signs_of_life(Broken(held.step, held.claim, held._lock)):
        wait_for_signs(ticking, 3)
    assert "cannot give a sign of life for step 0001: [Errno 5] Input/output error" in caplog.text


def test_a_claim_that_was_given_up_within_its_run_does_no_harm(bench: Bench, ticking: Operation) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    with signs_of_life(held):
        held.release()
        wait_for_signs(ticking, 3)


def test_a_forked_child_gives_signs_of_its_own_claims_and_none_of_its_parents(bench: Bench, ticking: Operation) -> None:
    """The pool's processes are forks of a parent that may have such a thread."""
    operation = bench.start()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = bench.claim(bench.other(operation))
            assert pulse._pulse._held == set()
            with signs_of_life(held):
                os.write(write, b".")
                wait_for(lambda: (bench.path / "enough").exists(), 30)
        finally:
            os._exit(0)
    try:
        assert os.read(read, 1) == b"."
        wait_for_signs(operation)
        wait_for_signs(ticking)
    finally:
        (bench.path / "enough").touch()
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
