"""Putting right what is wrong, and nothing else."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support import wait_for
from support.bench import Bench, events
from support.mortal import deaths
from support.trees import PAIR, STEP, group_of, tree_of, wide
from support.wrecks import LEFT, MENDED, PATHS, Wreck, begin, go_on, old, paused_inside, portrait, save, succeeded, work
from tapfs.bus import attic, verify
from tapfs.bus.claims import HeldClaim
from tapfs.bus.control import Control
from tapfs.bus.findings import Finding, Remedy, Severity
from tapfs.bus.gaps import givers, takers
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Step
from tapfs.bus.questions import GATE
from tapfs.bus.records import LARGE, Checkpoint, Claim, Failure
from tapfs.bus.repair import ERROR_LOST, Act, Outcome, Report, in_order, repair
from tapfs.bus.states import FINAL, State
from tapfs.bus.steps import commit_step
from tapfs.bus.verify import verify_control
from tapfs.errors import ControlUnusable


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes here, so two looks need not be far apart."""
    monkeypatch.setattr(verify, "_BETWEEN_S", 0.001)


def findings(bench: Bench) -> list[Finding]:
    return verify_control(bench.control)[1]


def faults(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity is Severity.FAULT]


def mend(bench: Bench, control: Control | None = None) -> Report:
    """Repair as another process would, that has no publisher."""
    control = control or Control(bench.path, actor="cli:ada", clock=lambda: bench.now)
    return repair(control, lambda: verify_control(control))


def wrecked(bench: Bench, wreck: Wreck) -> Operation:
    operation = wreck.make(bench)
    wreck.spoil(bench, operation)
    return operation


def named(wrecks: list[Wreck]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.parametrize("wreck", wrecks, ids=lambda wreck: wreck.name.replace(" ", "-"))


@named([*MENDED, *LEFT])
def test_verify_says_what_is_wrong_where_and_what_will_be_done_and_changes_nothing(bench: Bench, wreck: Wreck) -> None:
    operation = wrecked(bench, wreck)
    before = portrait(bench.path)
    found = findings(bench)
    assert wreck.is_found_in(found, bench, operation), found
    assert all(one.advice for one in found if one.severity is Severity.FAULT)
    assert all(one.advice for one in found if one.remedy)
    assert portrait(bench.path) == before


@named(MENDED)
def test_what_is_put_right_is_not_found_again_and_the_operation_goes_on_to_its_exact_result(
    bench: Bench, wreck: Wreck
) -> None:
    operation = wrecked(bench, wreck)
    report = mend(bench)
    assert faults(report.left) == []
    assert not wreck.is_found_in(report.left, bench, operation)
    assert any(act.outcome is Outcome.DONE for act in report.acts)
    assert not any(act.outcome is Outcome.FAILED for act in report.acts), report.acts
    go_on(bench, operation)


@named(MENDED)
def test_a_repair_of_what_is_in_order_does_nothing(bench: Bench, wreck: Wreck) -> None:
    wrecked(bench, wreck)
    mend(bench)
    before = portrait(bench.path)
    assert mend(bench).acts == []
    assert portrait(bench.path) == before


@named(LEFT)
def test_what_tapfs_does_not_understand_is_left_byte_for_byte(bench: Bench, wreck: Wreck) -> None:
    operation = wrecked(bench, wreck)
    before = portrait(bench.path)
    report = mend(bench)
    assert report.acts == []
    assert wreck.is_found_in(report.left, bench, operation)
    assert portrait(bench.path) == before
    if not wreck.is_lost:
        go_on(bench, operation)


@named(MENDED)
def test_strangers_are_not_touched_by_any_repair(bench: Bench, wreck: Wreck) -> None:
    operation = wrecked(bench, wreck)
    strangers = [
        bench.path / "notes.txt",
        bench.path / "operations" / "notes.txt",
        operation.path / "notes.txt",
        operation.path / "state.json.rejected-7",
        operation.path / "attic.txt",
    ]
    strangers += [operation.layout.steps / "notes.txt"] if operation.layout.steps.is_dir() else []
    for path in strangers:
        path.write_bytes(b"mine\0\xff")
    before = [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in strangers]
    mend(bench)
    assert [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in strangers] == before


@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_is_deleted_what_is_put_aside_is_in_the_attic(bench: Bench, is_link: bool) -> None:
    operation = begin(bench)
    claim = operation.layout.claim("0002")
    claim.unlink()
    if is_link:
        claim.symlink_to("/etc/hostname")
    else:
        claim.mkdir()
        (claim / "mine.txt").write_text("keep me")
    (act,) = mend(bench).acts
    assert act.kept_as == "attic/repair-1/claims/0002"
    kept = operation.path / act.kept_as
    assert os.readlink(kept) == "/etc/hostname" if is_link else (kept / "mine.txt").read_text() == "keep me"


def test_the_same_file_put_aside_twice_is_kept_twice(bench: Bench) -> None:
    operation = begin(bench)
    for number in (1, 2):
        operation.layout.claim("0002").write_text(f"nonsense {number}")
        mend(bench)
    kept = [(operation.layout.attic / f"repair-{number}" / "claims" / "0002").read_text() for number in (1, 2)]
    assert kept == ["nonsense 1", "nonsense 2"]


def test_each_repair_is_journaled_with_what_was_wrong_and_where_the_old_file_is(bench: Bench) -> None:
    operation = succeeded(bench)
    operation.layout.result.write_text("4")
    mend(bench)
    (entry,) = events(operation, "repaired")
    assert {key: entry[key] for key in ("by", "state", "file", "message", "remedy", "kept_as")} == {
        "by": "cli:ada",
        "state": "succeeded",
        "file": "result.json",
        "message": "it is not what the last step's commit says",
        "remedy": "write",
        "kept_as": "attic/repair-1/result.json",
    }
    assert (operation.path / entry["kept_as"]).read_text() == "4"


def test_a_lost_error_says_that_it_was_lost_and_where_the_operation_stands(bench: Bench) -> None:
    operation, _ = bench.in_state("failed")
    operation.layout.error.unlink()
    mend(bench)
    failure = Failure.read(operation.layout.error)
    assert (failure.type, failure.step, failure.epoch) == (ERROR_LOST, "0001-one", 1)
    assert "lost" in failure.message


def test_a_commit_that_is_put_aside_takes_back_what_the_next_step_has_of_it(bench: Bench) -> None:
    """Its claim, so that no late message runs it on nothing; its checkpoint, for it was made from another result."""
    operation = begin(bench)
    late = bench.published[-1]
    held = bench.claim(operation)
    save(operation, held)
    held.release()
    operation.layout.commit(operation.plan().steps[0]).write_text("{")
    mend(bench)
    assert bench.published[-1] is late
    assert "not committed" in bench.drop(operation)
    assert (operation.layout.attic / "repair-1" / "steps" / "0002-one.checkpoint.json").exists()
    go_on(bench, operation)


@pytest.mark.parametrize("name", ["steps/0001-one.json", "steps/0002-one.checkpoint.json", "claims/0002"])
def test_what_a_worker_may_be_using_is_left_while_it_is_at_work(bench: Bench, name: str) -> None:
    operation = begin(bench)
    held = bench.claim(operation)
    path = operation.path / name
    path.write_bytes(b"nonsense")
    before = portrait(bench.path)
    report = mend(bench)
    assert report.acts == []
    assert [one.path for one in report.left] == [str(path)]
    assert portrait(bench.path) == before
    bench.commit(operation, held, PATHS[:2])
    assert mend(bench).left == ([] if "0001" not in name else report_of(operation))
    go_on(bench, operation)


def report_of(operation: Operation) -> list[Finding]:
    """What is then said of a commit that nobody needs any more."""
    return [one for one in verify.verify_operation(operation) if "do not need it" in (one.advice or "")]


def test_a_claim_that_a_strange_process_holds_is_left(bench: Bench) -> None:
    operation = begin(bench)
    path = operation.layout.claim("0099")
    from tapfs.bus.locks import ClaimLock

    lock = ClaimLock.place(str(path), Claim(epoch=1, attempt=1).encode())
    assert mend(bench).acts == []
    assert path.exists()
    lock.release()
    assert [act.finding.path for act in mend(bench).acts] == [str(path)]


def test_a_file_that_is_mended_in_the_instant_in_which_it_would_be_put_aside_stays(bench: Bench) -> None:
    operation = paused_inside(bench)
    path = operation.layout.checkpoint(operation.plan().steps[1])
    good = path.read_bytes()
    path.write_bytes(b"{")
    seen = attic.seen_at(path)
    path.unlink()
    path.write_bytes(good)
    with pytest.raises(attic.Changed):
        attic.put_aside(operation.layout, path, seen)
    assert path.read_bytes() == good
    assert Checkpoint.read(path, LARGE).done == 1.0


def test_a_file_too_large_to_read_is_left(bench: Bench) -> None:
    operation = paused_inside(bench)
    path = operation.layout.checkpoint(operation.plan().steps[1])
    os.truncate(path, LARGE + 1)
    assert mend(bench).acts == []
    assert path.stat().st_size == LARGE + 1


def test_a_directory_of_a_newer_tapfs_is_refused_and_left_as_it_is(bench: Bench) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("nonsense")
    bench.control.layout.format.write_text("tapfs 2\n")
    before = portrait(bench.path)
    with pytest.raises(ControlUnusable, match="its format is 'tapfs 2'"):
        mend(bench)
    assert portrait(bench.path) == before


def test_without_its_format_a_directory_is_put_right_as_a_whole(bench: Bench) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("nonsense")
    bench.control.layout.format.unlink()
    report = mend(bench)
    assert [Path(act.finding.path).name for act in report.acts] == ["format", "0002"]
    assert (report.checked, report.left) == (1, [])


def test_several_things_wrong_with_one_operation_are_put_right_at_once(bench: Bench) -> None:
    operation = succeeded(bench)
    for name in ("lock", "journal.jsonl", "result.json", "run.json", "state.json"):
        (operation.path / name).unlink()
        (operation.path / name).mkdir()
    operation.layout.attic.write_text("mine")
    assert faults(mend(bench).left) == []
    assert operation.result == PATHS
    assert (operation.path / "attic.rejected-1").read_text() == "mine"


@pytest.mark.parametrize("run", [None, "nonsense"])
def test_whether_an_operation_has_ended_is_known_before_a_commit_is_put_aside(bench: Bench, run: str | None) -> None:
    operation = succeeded(bench)
    commit = operation.layout.commit(operation.plan().steps[-1])
    commit.write_text("{")
    operation.layout.run.unlink()
    if run is not None:
        operation.layout.run.write_text(run)
    report = mend(bench)
    assert commit.read_text() == "{"
    assert [one.path for one in report.left] == [str(commit)]
    assert (operation.state, operation.result) == (State.SUCCEEDED, PATHS)


def test_a_name_that_leads_to_no_operation_is_told_and_left(bench: Bench) -> None:
    link = bench.control.layout.operations / "20261122-101502-tally-aaaaaa"
    begin(bench)
    link.symlink_to("nowhere")
    report = mend(bench)
    assert report.acts == []
    assert {one.path for one in faults(report.left)} >= {str(link)}
    assert os.readlink(link) == "nowhere"


def test_a_spoilt_operation_keeps_no_other_from_being_put_right(bench: Bench) -> None:
    spoilt, good = begin(bench), begin(bench)
    spoilt.layout.identity.unlink()
    for operation in (spoilt, good):
        operation.layout.claim("0002").write_text("nonsense")
    report = mend(bench)
    assert [act.finding.operation for act in report.acts] == [good.id]
    go_on(bench, good)


def test_an_act_that_cannot_be_done_is_told_with_why_and_the_others_are_done(bench: Bench) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("nonsense")
    found = findings(bench)
    other = begin(bench)
    stopped = Finding(str(other.layout.result), Severity.FAULT, "x", "y", Remedy.WRITE, other.id)
    told: list[Act] = []
    report = repair(bench.control, lambda: (2, [*found, stopped]), on_act=told.append)
    outcomes = {act.finding.path: act.outcome for act in told}
    assert outcomes[str(other.layout.result)] is Outcome.NOT_NEEDED
    assert Outcome.DONE in {act.outcome for act in told if act.finding.operation == operation.id}
    assert len(report.acts) == len(told)


def test_a_lock_that_somebody_holds_for_too_long_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("nonsense")
    (operation.layout.claims / "0098").write_text("nonsense")
    control = Control(bench.path)
    monkeypatch.setattr(control.operation(operation.id)._lock, "_timeout_s", 0.1)
    with operation.locked():
        report = repair(control, lambda: verify_control(control))
    assert [act.outcome for act in report.acts] == [Outcome.FAILED] * 2
    assert "somebody has held" in (report.acts[0].trouble or "")
    assert len(report.left) == 2


def test_the_order_is_what_the_others_need_first(bench: Bench) -> None:
    operation = succeeded(bench)
    for name in ("lock", "journal.jsonl", "run.json"):
        (operation.path / name).unlink()
        (operation.path / name).mkdir()
    operation.layout.result.unlink()
    (operation.layout.claims / "0002").mkdir()
    names = [Path(one.path).name for one in in_order(findings(bench))]
    assert [name for name in names if name != "state.json"] == ["lock", "journal.jsonl", "0002", "run.json"]


@pytest.mark.parametrize(
    "wreck",
    [
        one
        for one in MENDED
        if one.name
        in (
            "a claim is a folder",
            "the commit before a checkpoint",
            "the result is another",
            "the error is nonsense",
            "run.json is nonsense",
            "the lock is a folder",
            "there is no index",
            "half a start is left",
        )
    ],
    ids=lambda wreck: wreck.name.replace(" ", "-"),
)
def test_a_repair_killed_at_any_write_can_be_repeated_to_the_exact_result(tmp_path: Path, wreck: Wreck) -> None:
    """Death before any change of a name, one later each time."""
    count = iter(range(1000))

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / str(next(count)))
        return bench, wrecked(bench, wreck)

    tried = 0
    for bench, operation in deaths(scene, lambda made: mend(made[0])):
        tried += 1
        for path in bench.path.rglob(".tmp-*"):
            old(path)
        assert faults(mend(bench).left) == []
        go_on(bench, operation)
    print(tried, "points of death")
    assert tried > 2


def test_repairs_at_the_same_time_as_workers_leave_the_exact_result(bench: Bench) -> None:
    """Two repairs in processes of their own, again and again, while a worker commits and somebody spoils."""
    operation = bench.start(20)
    ready, gone = os.pipe()
    children = [_repairing_child(bench.path, ready, gone) for _ in range(2)]
    try:
        spoilt = _work_and_spoil(bench, operation)
    finally:
        os.close(gone)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        os.close(ready)
    assert codes == [0, 0]
    go_on(bench, operation)
    assert faults(mend(bench).left) == []
    print(spoilt, "spoilt")
    assert spoilt > 10


def _work_and_spoil(bench: Bench, operation: Operation) -> int:
    spoilt = 0
    for _ in range(400):
        bench.now += 120
        if operation.state in FINAL:
            break
        operation.reconcile()
        spoilt += _spoil_something(operation, spoilt)
        wait_for(lambda: _is_free(operation), 30)
        held = bench.take(operation)
        if isinstance(held, HeldClaim):
            work(bench, operation, held)
    return spoilt


def _spoil_something(operation: Operation, number: int) -> int:
    """A different thing each time; at most forty."""
    if number >= 40:
        return 0
    frontier = operation.progress(operation.plan(), operation.epoch()).look().open
    claim = operation.layout.claims / (frontier[0].path if frontier and number % 3 else f"{90 + number:04d}")
    if number % 2:
        claim.unlink(missing_ok=True)
        claim.mkdir()
    else:
        claim.write_text("nonsense")
    return 1


def _is_free(operation: Operation) -> bool:
    """Whether no folder is in the way of a claim any more."""
    operation.reconcile()
    return not any(path.is_dir() for path in operation.layout.claims.iterdir())


def _repairing_child(path: Path, ready: int, gone: int) -> int:
    """Fork a process that repairs until the pipe's other end is closed, by its parent or by that one's death."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.close(gone)
        os.set_blocking(ready, False)
        control = Control(path, actor="cli:ada")
        while True:
            report = repair(control, lambda: verify_control(control))
            assert not [act for act in report.acts if act.outcome is Outcome.FAILED], report.acts
            try:
                if os.read(ready, 1) == b"":
                    break
            except BlockingIOError:
                continue
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def test_two_repairs_in_threads_do_each_thing_once(bench: Bench) -> None:
    operations = [begin(bench) for _ in range(5)]
    for operation in operations:
        (operation.layout.claims / "0002").unlink()
        (operation.layout.claims / "0002").mkdir()
        (operation.layout.claims / "0002" / "mine.txt").write_text("keep me")
    reports: list[Report] = []
    start = threading.Barrier(2)

    def run() -> None:
        control = Control(bench.path, actor="cli:ada")
        start.wait()
        reports.append(repair(control, lambda: verify_control(control)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    acts = [act for report in reports for act in report.acts]
    assert sum(act.outcome is Outcome.DONE for act in acts) == len(operations)
    assert not any(act.outcome is Outcome.FAILED for act in acts)
    for operation in operations:
        assert len(list(operation.layout.attic.rglob("mine.txt"))) == 1
        go_on(bench, operation)


def test_a_state_is_still_the_one_that_was_asked_for(bench: Bench) -> None:
    operation = paused_inside(bench)
    operation.layout.state.write_bytes(b"nonsense")
    operation.layout.run.write_bytes(b"nonsense")
    wait_for(lambda: operation.state_file.read().is_settled)
    assert faults(mend(bench).left) == []
    assert operation.state is State.PAUSED


def at_gate(bench: Bench) -> Operation:
    """One that waits at a gate in its second place."""
    gate = Step("", "approve", GATE, kwargs={"name": "approve", "question": "Go on?", "fields": {}})
    operation = bench.start_tree(STEP, gate, STEP)
    work(bench, operation, bench.claim(operation))
    assert operation.state is State.WAITING
    return operation


def test_what_a_gate_asks_is_written_anew_and_what_people_put_there_is_left(bench: Bench) -> None:
    operation = at_gate(bench)
    folder = operation.layout.gates / "0002-approve"
    good = (folder / "request.json").read_bytes()
    (folder / "request.json").write_text("{")
    (folder / "notes.txt").write_text("mine")
    (folder / "answer.json.rejected-1").write_text("mine")
    found = {Path(one.path).name: (one.severity, one.remedy) for one in findings(bench)}
    assert found == {"request.json": (Severity.FAULT, Remedy.PUT_ASIDE), "notes.txt": (Severity.NOTE, None)}
    mend(bench)
    operation.reconcile()
    assert (folder / "request.json").read_bytes() == good
    assert (folder / "notes.txt").read_text() == (folder / "answer.json.rejected-1").read_text() == "mine"
    assert faults(findings(bench)) == []


def test_a_waiting_gate_is_in_order(bench: Bench) -> None:
    at_gate(bench)
    assert findings(bench) == []


def test_while_the_others_end_beside_a_step_that_has_failed_all_is_in_order(bench: Bench) -> None:
    operation = bench.start_tree(wide(2), STEP)
    held = bench.claim_at(bench.other(operation), "0001/0002")
    bench.fail_at(operation, "0001/0001")
    assert findings(bench) == []
    operation.layout.error.unlink()
    assert [(one.path, one.remedy) for one in findings(bench)] == [(str(operation.layout.error), Remedy.WRITE)]
    mend(bench)
    work(bench, operation, held)
    failure = operation.failure()
    assert failure is not None
    assert (operation.state, failure.type) == (State.FAILED, ERROR_LOST)


@pytest.mark.parametrize("done", range(9))
def test_a_tree_is_in_order_however_far_it_has_come(bench: Bench, done: int) -> None:
    operation = bench.start_tree(STEP, group_of(STEP, PAIR, wide(2), concurrency=2), STEP)
    for _ in range(min(done, 7)):
        work(bench, operation, bench.claim_at(operation, bench.out(operation)[-1]))
    if done == 8:
        assert operation.state is State.SUCCEEDED
        operation.rewind("0002/0002")
    assert [one for one in findings(bench) if one.severity is Severity.FAULT] == []


def test_a_member_that_was_given_up_and_what_a_step_put_in_are_in_order(bench: Bench) -> None:
    operation = bench.start_tree(wide(2, on_error="continue"), STEP)
    bench.fail_at(operation, "0001/0001")
    held = bench.claim_at(operation, "0001/0002")
    commit_step(operation, held, ["0001/0002"], "now", then=(PAIR,), members=(STEP,))
    assert findings(bench) == []
    while not operation.ready():
        work(bench, operation, bench.claim_at(operation, bench.out(operation)[0]))
        assert faults(findings(bench)) == []
    assert operation.state is State.SUCCEEDED


def test_a_commit_that_put_something_in_is_put_aside_only_while_nothing_of_that_is_done(bench: Bench) -> None:
    """Done again, it puts in anew: what it had put in goes, and what is done of that would stand there for nothing."""
    operation = bench.start_tree(wide(2), STEP)
    held = bench.claim_at(operation, "0001/0001")
    commit_step(operation, held, ["0001/0001"], "now", members=(STEP,))
    path = operation.layout.commit(operation.plan().step("0001/0001"))
    good = path.read_bytes()
    work(bench, operation, bench.claim_at(operation, "0001/0003"))
    path.write_text("{")
    (finding,) = findings(bench)
    assert (finding.remedy, "rewind to 0001/0001" in (finding.advice or "")) == (None, True)
    path.write_bytes(good)
    assert findings(bench) == []


def test_what_takes_a_lost_result_is_found_through_groups_and_chains(bench: Bench) -> None:
    plan = tree_of(STEP, group_of(STEP, PAIR), wide(2), STEP)

    def takes(path: str) -> list[str]:
        return [step.path for step in takers(plan, plan.step(path))]

    assert takes("0001") == ["0002/0001", "0002/0002/0001"]
    assert takes("0002/0001") == ["0003/0001", "0003/0002"]
    assert takes("0002/0002/0001") == ["0002/0002/0002"]
    assert takes("0002/0002/0002") == ["0003/0001", "0003/0002"]
    assert takes("0003/0002") == ["0004"]
    assert takes("0004") == []
    assert [step.path for step in givers(plan.part("0002"))] == ["0002/0001", "0002/0002/0002"]
    assert [step.path for step in givers(plan.root)] == ["0004"]
