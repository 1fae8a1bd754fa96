"""What a running step saves: checkpoints and the notes of its side effects, fenced as a commit is."""

import json
import os
from pathlib import Path

import pytest

from support.bench import START, Bench
from support.mortal import deaths
from tapfs.bus import claims, saved
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.losses import give_away
from tapfs.bus.operation import Operation
from tapfs.bus.records import Checkpoint
from tapfs.bus.saved import note_begun, read_begun, read_checkpoint, write_checkpoint
from tapfs.bus.states import State
from tapfs.bus.steps import interrupt_step
from tapfs.errors import RecordInvalid


def place(done: float, attempt: int = 1) -> Checkpoint:
    """A checkpoint whose cursor and value belong together."""
    fold = {"cursor": done, "value": {"sum": done * 10}}
    return Checkpoint(folds=[fold], done=done, unit="rows", epoch=1, attempt=attempt)


@pytest.fixture
def operation(bench: Bench) -> Operation:
    return bench.start()


@pytest.fixture
def held(bench: Bench, operation: Operation) -> HeldClaim:
    return bench.claim(operation)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- checkpoints


def test_a_checkpoint_is_read_as_it_was_written_and_the_last_one_counts(operation: Operation, held: HeldClaim) -> None:
    assert read_checkpoint(operation, held) is None
    for done in (1.0, 2.0, 3.0):
        assert write_checkpoint(operation, held, place(done))
    assert read_checkpoint(operation, held) == place(3.0)
    assert names(operation.layout.steps) == ["0001-one.checkpoint.json"]


def test_a_holder_that_lost_its_step_changes_neither_the_checkpoint_nor_the_notes_of_its_follower(
    bench: Bench, operation: Operation, held: HeldClaim
) -> None:
    """B65."""
    assert write_checkpoint(operation, held, place(5.0))
    assert note_begun(operation, held, "mail-1")
    give_away(operation, "0001", 1, 1, "it is frozen")
    follower = bench.claim(operation)
    assert read_checkpoint(operation, follower) == place(5.0)
    assert write_checkpoint(bench.other(operation), follower, place(9.0, attempt=2))
    assert not write_checkpoint(operation, held, place(6.0))
    assert not note_begun(operation, held, "mail-2")
    assert read_checkpoint(operation, follower) == place(9.0, attempt=2)
    assert read_begun(operation, follower) == {"mail-1"}
    assert names(operation.layout.steps) == ["0001-one.checkpoint.json", "0001-one.once.jsonl"]
    bench.commit(operation, follower)
    assert not write_checkpoint(operation, held, place(6.0)), "nor after the end of the step"
    assert not note_begun(operation, held, "mail-2")
    assert names(operation.layout.steps) == ["0001-one.json"]
    bench.finish(operation)


def test_a_holder_that_loses_its_step_while_it_writes_gives_its_checkpoint_no_name(
    bench: Bench, operation: Operation, held: HeldClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B65: the large part is written without the lock, so the claim is asked under it, at the last instant."""
    write_temporary = saved.files.write_temporary

    def lose(folder: Path, content: bytes) -> str:
        monkeypatch.undo()
        give_away(bench.other(operation), "0001", 1, 1, "it is frozen")
        return write_temporary(folder, content)

    monkeypatch.setattr(saved.files, "write_temporary", lose)
    assert not write_checkpoint(operation, held, place(5.0))
    assert names(operation.layout.steps) == []


def test_a_checkpoint_that_cannot_be_named_leaves_no_temporary(operation: Operation, held: HeldClaim) -> None:
    target = operation.layout.checkpoint(held.step)
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_checkpoint(operation, held, place(1.0))
    assert names(operation.layout.steps) == [target.name]


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b'{"folds": {}}', b'{"folds": [], "done": "x"}'], ids=str)
def test_a_spoilt_checkpoint_is_refused_and_kept_for_a_person(
    operation: Operation, held: HeldClaim, content: bytes
) -> None:
    """B34."""
    path = operation.layout.checkpoint(held.step)
    path.write_bytes(content)
    with pytest.raises(RecordInvalid) as caught:
        read_checkpoint(operation, held)
    assert caught.value.path == str(path)
    assert caught.value.hint == "move the file away to start the step anew"
    assert path.read_bytes() == content


def test_a_checkpoint_outlives_pauses_interruptions_and_crashes_and_goes_with_the_commit(
    bench: Bench, operation: Operation, held: HeldClaim
) -> None:
    """B22, B25."""
    write_checkpoint(operation, held, place(1.0))
    interrupt_step(operation, held, "the worker got SIGTERM")
    held = bench.claim(operation)
    assert read_checkpoint(operation, held) == place(1.0)
    held.release()
    operation.reconcile()
    operation.pause()
    operation.resume()
    held = bench.claim(operation)
    assert read_checkpoint(operation, held) == place(1.0)
    bench.commit(operation, held)
    assert names(operation.layout.steps) == ["0001-one.json"]


# ---- side effects


def test_a_begun_side_effect_is_known_to_every_later_run_of_the_step_and_to_no_other_step(
    bench: Bench, operation: Operation, held: HeldClaim
) -> None:
    """B74: what was started and not finished is seen as such."""
    assert read_begun(operation, held) == set()
    keys = ["mail-42", "caf\udce9", "two\nlines", "", '"quoted"', "\u2028"]
    for key in keys:
        assert note_begun(operation, held, key)
    assert read_begun(operation, held) == set(keys)
    held.release()
    operation.reconcile()
    again = bench.claim(operation)
    assert read_begun(bench.other(operation), again) == set(keys)
    lines = [json.loads(line) for line in operation.layout.once(held.step).read_bytes().splitlines()]
    assert lines[0] == {"key": "mail-42", "at": timestamp(START), "attempt": 1}
    bench.commit(operation, again)
    following = bench.claim(operation)
    assert read_begun(operation, following) == set()
    assert not operation.layout.once(held.step).exists(), "a committed step is not run again"


def test_a_torn_note_was_not_answered_for_and_the_next_is_on_a_line_of_its_own(
    operation: Operation, held: HeldClaim
) -> None:
    note_begun(operation, held, "mail-1")
    path = operation.layout.once(held.step)
    path.write_bytes(path.read_bytes() + b'{"key": "mail-2", "at')
    assert read_begun(operation, held) == {"mail-1"}
    assert note_begun(operation, held, "mail-3")
    assert read_begun(operation, held) == {"mail-1", "mail-3"}


@pytest.mark.parametrize("content", [b"[]\n5\nnull\n{}\n", b"\x00\xff\n", b"scribble"], ids=str)
def test_lines_that_are_no_notes_count_as_nothing(operation: Operation, held: HeldClaim, content: bytes) -> None:
    operation.layout.once(held.step).write_bytes(content)
    assert read_begun(operation, held) == set()
    assert note_begun(operation, held, "mail-1")
    assert "mail-1" in read_begun(operation, held)


def test_notes_that_cannot_be_read_are_not_taken_for_none(operation: Operation, held: HeldClaim) -> None:
    """Or a side effect would be done twice."""
    operation.layout.once(held.step).mkdir()
    with pytest.raises(OSError, match="folder"):
        read_begun(operation, held)


# ---- death between any two writes


def finish_after_loss(bench: Bench, operation: Operation) -> None:
    for _ in range(20):
        if operation.reconcile().state is State.SUCCEEDED:
            break
        held = bench.take(operation)
        if isinstance(held, HeldClaim):
            bench.commit(operation, held, held.step.path)
        else:
            bench.now += 61
    assert operation.result == "0002", operation.view()
    assert claims.all_out(operation.layout) == []


def test_death_at_any_write_of_a_checkpoint_leaves_the_old_place_or_the_new_one(bench: Bench) -> None:
    """Law 5: cursor and value together, whichever it is."""

    def scene() -> Operation:
        operation = bench.start()
        first = bench.claim(operation)
        write_checkpoint(operation, first, place(1.0))
        interrupt_step(operation, first, "so that a child can have it")
        return operation

    def save(operation: Operation) -> None:
        other = bench.other(operation)
        held = claim_step(other, "0001", 1, 2, "w")
        assert isinstance(held, HeldClaim)
        assert write_checkpoint(other, held, place(2.0, attempt=2))

    seen = []
    for operation in deaths(scene, save):
        operation.reconcile()
        path = operation.layout.checkpoint(operation.plan().steps[0])
        found = Checkpoint.read(path)
        seen.append(found.done)
        assert found in (place(1.0), place(2.0, attempt=2))
        finish_after_loss(bench, operation)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (1.0, 2.0)


def test_death_at_any_write_of_a_note_leaves_the_side_effect_undone_or_known(bench: Bench) -> None:
    """B74: it is never done by two."""

    def begin(operation: Operation) -> None:
        other = bench.other(operation)
        held = claim_step(other, "0001", 1, 1, "w")
        assert isinstance(held, HeldClaim)
        if note_begun(other, held, "mail-1"):
            os.close(os.open(operation.path.parent / f"{operation.id}.sent", os.O_CREAT | os.O_EXCL))

    sent = []
    for operation in deaths(bench.start, begin):
        mail = operation.path.parent / f"{operation.id}.sent"
        sent.append(mail.exists())
        operation.reconcile()
        bench.now += 61
        operation.reconcile()
        held = bench.claim(operation)
        is_known = "mail-1" in read_begun(operation, held)
        assert is_known or not sent[-1]
        bench.commit(operation, held, "0001")
        finish_after_loss(bench, operation)
    assert (sent[0], sent[-1]) == (False, True)
