"""Claims: which steps are out, and which process runs them."""

import os
from pathlib import Path

import pytest

from support import Process, Processes
from support.bench import Bench, events
from tapfs.bus import claims
from tapfs.bus.begin import Dropped
from tapfs.bus.operation import Operation
from tapfs.bus.records import Claim
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step

#: Claims the step that the bench has put out, and keeps it; told so, commits it.
WORKER = """
import sys
from tapfs.bus.control import Control
from tapfs.bus.begin import claim_step
from tapfs.bus.steps import commit_step

folder, operation_id, path, epoch, attempt = sys.argv[1:]
operation = Control(folder, actor="worker").operation(operation_id)
held = claim_step(operation, path, int(epoch), int(attempt), "worker")
print("claimed", type(held).__name__, flush=True)
import time
from pathlib import Path
while not Path(folder, "commit").exists():
    time.sleep(0.01)
print("commit", commit_step(operation, held, "from the worker", "2027-01-15T08:00:00.000Z"), flush=True)
"""


def worker(bench: Bench, operation: Operation, processes: Processes) -> Process:
    """Another process that holds the step published last."""
    last = bench.published[-1]
    process = processes.python(
        "-c", WORKER, bench.path, operation.id, last.step.path, str(last.epoch), str(last.attempt)
    )
    process.wait_for_output("claimed HeldClaim")
    return process


def only_out(operation: Operation) -> claims.Out:
    (out,) = claims.all_out(operation.layout)
    return out


def test_a_step_put_out_is_out_and_nobodys(bench: Bench) -> None:
    out = only_out(bench.start())
    assert (out.path, out.is_held, out.is_dead) == ("0001", False, False)
    assert out.claim is not None
    assert (out.claim.epoch, out.claim.attempt, out.claim.publishes, out.claim.holder) == (1, 1, 1, None)


def test_a_claimed_step_is_held_and_names_its_holder(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    out = only_out(operation)
    assert (out.is_held, out.is_dead) == (True, False)
    assert out.claim == held.claim
    assert out.claim.held_by is not None
    assert (out.claim.held_by.worker, out.claim.held_by.pid) == ("worker@test", os.getpid())


def test_kill_9_of_the_holder_frees_the_claim_at_once(bench: Bench, processes: Processes) -> None:
    operation = bench.start()
    process = worker(bench, operation, processes)
    assert only_out(operation).is_held
    process.kill()
    assert only_out(operation).is_dead
    assert operation.reconcile().state is State.INTERRUPTED
    last = bench.published[-1]
    assert (last.step.path, last.attempt, last.epoch) == ("0001", 2, 1)


def test_a_frozen_holder_counts_as_held_and_its_step_is_not_put_out_again(bench: Bench, processes: Processes) -> None:
    operation = bench.start()
    process = worker(bench, operation, processes)
    process.stop()
    bench.now += 3600
    assert operation.reconcile().state is State.RUNNING
    assert only_out(operation).is_held
    assert len(bench.published) == 1


def test_what_a_holder_commits_after_its_claim_was_given_to_another_is_refused(
    bench: Bench, processes: Processes
) -> None:
    operation = bench.start()
    process = worker(bench, operation, processes)
    process.stop()
    given = Claim(epoch=1, attempt=2, publishes=1)
    with operation.locked():
        claims.put_out(operation.layout, "0001", given)
    process.cont()
    (bench.path / "commit").touch()
    assert "given to another" in process.wait_for_output("commit ")
    assert operation.is_committed(operation.plan().steps[0]) is False
    assert only_out(operation).claim == given
    assert [entry["attempt"] for entry in events(operation, "dropped")] == [1]


def test_a_holder_of_an_earlier_epoch_commits_nothing(bench: Bench) -> None:
    """B65."""
    operation = bench.start()
    held = bench.claim(operation)
    run = operation.layout.run
    run.write_bytes(run.read_bytes().replace(b'"epoch": 1', b'"epoch": 2'))
    dropped = commit_step(operation, held, 1, "2027-01-15T08:00:00.000Z")
    assert dropped == Dropped("the operation is in epoch 2, the claim of epoch 1")


def test_a_claim_that_somebody_wrote_into_is_out_and_unreadable_and_made_anew(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.claim("0001").write_text("scribble")
    assert only_out(operation).claim is None
    assert "not out" in bench.drop(operation)
    operation.reconcile()
    assert bench.published[-1].step.path == "0001"
    bench.finish(operation)


def test_scribbling_into_a_held_claim_takes_it_from_nobody(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    operation.layout.claim("0001").write_text("scribble")
    assert only_out(operation).is_held
    operation.reconcile()
    assert len(bench.published) == 1
    bench.commit(operation, held)


def test_a_claim_for_a_step_that_the_plan_does_not_have_is_left_alone_and_holds_nobody(bench: Bench) -> None:
    """It may be a stranger's; `repair` puts it aside."""
    operation = bench.start()
    claims.put_out(operation.layout, "0099", Claim(epoch=1, attempt=1))
    claims.put_out(operation.layout, "0005/0001", Claim(epoch=1, attempt=1))
    (operation.layout.claims / "0005" / "notes.txt").write_text("mine")
    operation.reconcile()
    bench.finish(operation)
    left = ["0005/0001", "0005/notes.txt", "0099"]
    assert [out.path for out in claims.all_out(operation.layout)] == left


def test_a_claim_still_being_written_is_not_out(bench: Bench) -> None:
    operation = bench.start()
    (operation.layout.claims / ".tmp-1-2-abcd").write_text("{}")
    assert [out.path for out in claims.all_out(operation.layout)] == ["0001"]


@pytest.mark.parametrize("folder", ["claims", "steps"])
def test_a_folder_that_was_removed_is_made_again(bench: Bench, folder: str) -> None:
    """Git, for one, keeps no empty folders."""
    operation = bench.start()
    for path in (operation.path / folder).iterdir():
        path.unlink()
    (operation.path / folder).rmdir()
    operation.reconcile()
    bench.now += 3600
    operation.reconcile()
    bench.finish(operation)
    assert (operation.path / "steps").stat().st_mode & 0o007 == 0


def test_there_is_nothing_out_where_there_is_no_folder(tmp_path: Path, bench: Bench) -> None:
    assert claims.all_out(bench.control.operation("20270115-080000-x-aaaaaa").layout) == []
