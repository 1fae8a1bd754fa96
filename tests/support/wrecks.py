"""Ways in which a control directory can be spoilt, each with what a check must say of it and what repair may do."""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.bench import Bench
from support.trees import PAIR, STEP, group_of
from support.waiting import wait_for
from tapfs.bus import files
from tapfs.bus.claims import HeldClaim
from tapfs.bus.fields import Json
from tapfs.bus.findings import Finding, Remedy, Severity
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Part, Plan, Sequence, Step
from tapfs.bus.records import Checkpoint, Claim, Commit, Failure, Run
from tapfs.bus.states import FINAL, State
from tapfs.bus.steps import commit_step, fail_step, release_step
from tapfs.bus.values import value_of

PATHS = ["0001", "0002", "0003"]
ABSENT = "20261122-101502-tally-aaaaaa"
FAULT, NOTE = Severity.FAULT, Severity.NOTE


def work(bench: Bench, operation: Operation, held: HeldClaim) -> None:
    """Do a step: what came in, with its own path behind."""
    before = operation.plan().before(held.step)
    bench.commit(operation, held, [*(value_of(operation, before) if before else []), held.step.path])


def begin(bench: Bench, done: int = 1) -> Operation:
    """An operation of three steps, so many of them done."""
    operation = bench.start(len(PATHS))
    for _ in range(done):
        work(bench, operation, bench.claim(operation))
    return operation


def save(operation: Operation, held: HeldClaim) -> None:
    """Leave a step's checkpoint."""
    saved = Checkpoint(folds=[{"value": 7}], done=1.0, epoch=held.claim.epoch, attempt=held.claim.attempt)
    operation.layout.checkpoint(held.step).write_bytes(saved.encode())


def quiet(operation: Operation) -> Operation:
    """Wait until nobody can have the `state.json` open that tapfs has replaced."""

    def is_quiet() -> bool:
        operation.reconcile()
        return not operation.state_file.is_watching()

    wait_for(is_quiet)
    return operation


def paused_inside(bench: Bench) -> Operation:
    """One that stopped in its second step, with a checkpoint."""
    operation = begin(bench)
    held = bench.claim(operation)
    save(operation, held)
    operation.pause()
    release_step(operation, held)
    assert operation.state is State.PAUSED
    return quiet(operation)


def failed(bench: Bench) -> Operation:
    """One whose second step raised for good."""
    operation = begin(bench)
    fail_step(operation, bench.claim(operation), Failure(type="ValueError", message="no more paper"))
    return quiet(operation)


def succeeded(bench: Bench) -> Operation:
    return quiet(begin(bench, len(PATHS)))


def go_on(bench: Bench, operation: Operation) -> None:
    """Run what is left as workers and a supervisor would, that know nothing of the past; the result must be exact."""
    operation = bench.other(operation)
    operation.reconcile()
    if operation.state in (State.PAUSED, State.FAILED, State.CANCELLED):
        assert operation.resume().success
    for _ in range(60):
        if operation.state in FINAL:
            break
        bench.now += 120
        operation.reconcile()
        held = bench.take(operation)
        if isinstance(held, HeldClaim):
            work(bench, operation, held)
    assert operation.state is State.SUCCEEDED, operation.view()
    assert operation.result == _expected(operation, operation.plan().root)


def _expected(operation: Operation, part: Part, before: Json = None) -> Json:
    """What a part gives, by what `work` does, with the errors of members that were given up in their places."""
    if isinstance(part, Step):
        return [*(before or []), part.path]
    if isinstance(part, Sequence):
        for one in part.parts:
            before = _expected(operation, one, before)
        return before
    return [_expected_of_member(operation, member, before) for member in part.members]


def _expected_of_member(operation: Operation, member: Part, before: Json) -> Json:
    path = operation.layout.given_up(member)
    if not path.exists():
        return _expected(operation, member, before)
    failure = Failure.read(path)
    return {"error": {"type": failure.type, "message": failure.message, "step": failure.step}}


def old(path: Path) -> None:
    """Make it a day old."""
    then = os.stat(path).st_mtime - 86_400
    os.utime(path, (then, then), follow_symlinks=False)


def gone_pid() -> int:
    """The number of a process that has ended."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@dataclass(frozen=True)
class Wreck:
    """One way.

    Attributes:
        name: what is wrong, for the test's name.
        make: starts the operation.
        spoil: spoils it.
        path: where the finding must be, below the operation; below the control directory with a leading `/`.
        text: what it must say.
        remedy: what repair does; None where it must leave all as it is.
        severity: how much it matters.
        is_lost: whether the operation cannot go on to its result.
    """

    name: str
    spoil: Callable[[Bench, Operation], Any]
    path: str
    text: str
    remedy: Remedy | None = None
    severity: Severity = FAULT
    make: Callable[[Bench], Operation] = begin
    is_lost: bool = False

    def is_found_in(self, findings: list[Finding], bench: Bench, operation: Operation) -> bool:
        """Say whether it is among them, as it must be."""
        path = self.path.replace("<id>", operation.id)
        place = str(bench.path / path[1:] if path.startswith("/") else operation.path / path)
        return any(
            (_general(one.path), one.severity, one.remedy) == (place, self.severity, self.remedy)
            and self.text in one.text
            for one in findings
        )


def _general(path: str) -> str:
    return re.sub(r"\.tmp-[0-9]+-0-0a1b2c3d$", ".tmp-<pid>", path)


def portrait(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Everything below a folder, whatever it is: its kind and mode, and its content. To show that nothing changed."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(base, name)
            mode = path.lstat().st_mode
            content: bytes | str | None = None
            if stat.S_ISREG(mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            found[str(path.relative_to(folder))] = (mode, content)
    return found


def write(name: str, content: str) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        path = operation.path / name
        path.write_text(content)
        if name == "state.json":  # a young text may be an edit in the making
            wait_for(lambda: operation.state_file.read().is_settled)

    return spoil


def unlink(name: str) -> Callable[[Bench, Operation], Any]:
    return lambda bench, operation: (operation.path / name).unlink()


def _clear(path: Path) -> None:
    """Have nothing under a name, for a test to put something there."""
    if path.is_dir():
        for inner in path.iterdir():
            _clear(inner)
        path.rmdir()
    elif files.exists(path):
        path.unlink()


def folder(name: str) -> Callable[[Bench, Operation], Any]:
    """A folder in its place, with somebody's file in it."""

    def spoil(bench: Bench, operation: Operation) -> None:
        path = operation.path / name
        _clear(path)
        path.mkdir()
        (path / "mine.txt").write_text("keep me")

    return spoil


def fifo(name: str) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        _clear(operation.path / name)
        os.mkfifo(operation.path / name)

    return spoil


def dangling(name: str) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        _clear(operation.path / name)
        (operation.path / name).symlink_to("nowhere")

    return spoil


def _claim_of(epoch: int) -> str:
    return Claim(epoch=epoch, attempt=1).encode().decode()


def _says(state: str) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        view = operation.state_file.read().view
        assert view is not None
        files.replace(operation.layout.state, replace(view, state=state).encode())

    return spoil


def _outcome(outcome: str | None) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        run = replace(Run.read(operation.layout.run), outcome=outcome)
        files.replace(operation.layout.run, run.encode())

    return spoil


def _checkpoint_of_a_committed_step(bench: Bench, operation: Operation) -> None:
    step = operation.plan().steps[0]
    operation.layout.checkpoint(step).write_bytes(Checkpoint(done=1.0).encode())


def _last_commit_by_hand(bench: Bench, operation: Operation) -> None:
    """What a worker leaves that dies between its commit and all that follows."""
    record = Commit(result=PATHS, epoch=1, attempt=1)
    operation.layout.commit(operation.plan().steps[2]).write_bytes(record.encode())
    operation.layout.claim("0003").unlink()


def _temporary(below: str, pid: Callable[[], int] = gone_pid, is_old: bool = True) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        path = operation.path / below / f".tmp-{pid()}-0-0a1b2c3d"
        path.write_text("{")
        if is_old:
            old(path)

    return spoil


def _new(is_old: bool, stranger: bool = False) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        made = bench.control.layout.operations / f".new-{ABSENT}"
        (made / "steps").mkdir(parents=True)
        (made / "operation.json").write_text("{")
        if stranger:
            (made / "notes.txt").write_text("mine")
        for path in (*made.rglob("*"), made) if is_old else ():
            old(path)

    return spoil


def _entry(is_old: bool) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        entry = bench.control.layout.active / ABSENT
        entry.touch()
        if is_old:
            old(entry)

    return spoil


def _dead_worker(bench: Bench, operation: Operation) -> None:
    home = bench.path / "workers" / "a@b"
    home.mkdir(parents=True)
    (home / "worker.json").write_text("{}")
    (home / "STOPPING").touch()


def _no_index(bench: Bench, operation: Operation) -> None:
    _clear(bench.control.layout.active)


def _index_is_a_file(bench: Bench, operation: Operation) -> None:
    _no_index(bench, operation)
    bench.control.layout.active.write_text("mine")


def _entry_is_a_folder(bench: Bench, operation: Operation) -> None:
    entry = bench.control.layout.active / operation.id
    _clear(entry)
    entry.mkdir()


def _entry_of_a_final_one(bench: Bench, operation: Operation) -> None:
    (bench.control.layout.active / operation.id).touch()


def _mode(name: str, mode: int) -> Callable[[Bench, Operation], Any]:
    return lambda bench, operation: (operation.path / name).chmod(mode)


def _other_id(bench: Bench, operation: Operation) -> None:
    identity = replace(operation.identity(), id=ABSENT)
    files.replace(operation.layout.identity, identity.encode())
    (operation.layout.claims / "0099").write_text("x")  # must not be touched


def _no_format(bench: Bench, operation: Operation) -> None:
    bench.control.layout.format.unlink()


def _no_format_and_strange(bench: Bench, operation: Operation) -> None:
    operation.layout.run.write_text('{"epoch": "two"}')
    bench.control.layout.format.unlink()


def both(*spoils: Callable[[Bench, Operation], Any]) -> Callable[[Bench, Operation], Any]:
    def spoil(bench: Bench, operation: Operation) -> None:
        for one in spoils:
            one(bench, operation)

    return spoil


def _fresh(bench: Bench) -> Operation:
    return begin(bench, 0)


def _two_done(bench: Bench) -> Operation:
    return begin(bench, 2)


def _immutable_next(bench: Bench) -> Operation:
    """One whose second step takes nothing from the first."""
    from tapfs.bus.control import NewOperation

    steps = tuple(Step(path, "one", "test.one", immutable=path == "0002") for path in PATHS)
    operation = bench.control.start(NewOperation("tally", Plan(Sequence(steps)), {}))
    work(bench, operation, bench.claim(operation))
    return operation


#: The parts of `_tree`: a step, a group of a step, a chain of two and a step, and a step.
TREE: tuple[Part, ...] = (STEP, group_of(STEP, PAIR, STEP, on_error=CONTINUE), STEP)


def _tree(*done: str, failing: str = "", parts: tuple[Part, ...] = TREE) -> Callable[[Bench], Operation]:
    """A workflow with a group in it, of which some steps are done, and one has failed."""

    def make(bench: Bench) -> Operation:
        operation = bench.start_tree(*parts)
        for path in done:
            work(bench, operation, bench.claim_at(operation, path))
        if failing:
            bench.fail_at(operation, failing)
        return operation

    return make


def _tree_with_a_checkpoint(bench: Bench) -> Operation:
    """Paused in its group, whose every member has begun and none has ended."""
    operation = _tree("0001")(bench)
    held = [bench.claim_at(bench.other(operation), path) for path in ("0002/0001", "0002/0003")]
    operation.pause()
    for one in held:
        operation.layout.checkpoint(one.step).parent.mkdir(exist_ok=True)
        save(operation, one)
        release_step(operation, one)
    assert operation.state is State.PAUSED
    return quiet(operation)


def _paused_tree(bench: Bench) -> Operation:
    operation = _tree("0001", "0002/0001", "0002/0002/0001")(bench)
    operation.pause()
    return quiet(operation)


def _rewinding(bench: Bench, operation: Operation) -> None:
    """What a rewind leaves that died before it put anything aside."""
    run = replace(Run.read(operation.layout.run), rewind_to="0002/0002")
    files.replace(operation.layout.run, run.encode())


def _ended_group(bench: Bench) -> Operation:
    return quiet(
        _tree("0001", "0002/0001", "0002/0002/0001", "0002/0002/0002", parts=(STEP, group_of(STEP, PAIR)))(bench)
    )


def _put_in(bench: Bench) -> Operation:
    """One whose first step has put in another, which is done; nothing else needs the first one's result."""
    operation = bench.start(2)
    held = bench.claim(operation)
    commit_step(operation, held, ["0001"], "now", then=(STEP,))
    work(bench, operation, bench.claim_at(operation, "0001.0001"))
    return operation


def _done_with_other_arguments(bench: Bench, operation: Operation) -> None:
    path = operation.path / ONE
    path.write_bytes(replace(Commit.read(path), of=1).encode())


ONE, TWO, THREE = (f"steps/{path}-one.json" for path in PATHS)
SAVED = "steps/0002-one.checkpoint.json"
MEMBER, GIVEN_UP = "steps/0002/0001-one.json", "steps/0002/0003.error.json"
ASIDE, MAKE, WRITE, REMOVE, RECONCILE = Remedy

#: What repair puts right.
MENDED = [
    Wreck("state.json is nonsense", write("state.json", "nonsense"), "state.json", "line 1", RECONCILE),
    Wreck("state.json is missing", unlink("state.json"), "state.json", "it is missing", RECONCILE, NOTE),
    Wreck("state.json is a folder", folder("state.json"), "state.json", "it is a folder", RECONCILE),
    Wreck("state.json is a FIFO", fifo("state.json"), "state.json", "it is not a regular file", RECONCILE),
    Wreck("state.json is ahead", _says("succeeded"), "state.json", "run.json says it goes on", RECONCILE),
    Wreck("state.json is no end", _says("running"), "state.json", "run.json says succeeded", RECONCILE, make=succeeded),
    Wreck("state.json is not the journal's", _says("pausing"), "state.json", "the journal ends with", RECONCILE),
    Wreck("run.json is nonsense", write("run.json", "nonsense"), "run.json", "line 1", RECONCILE),
    Wreck("run.json is missing", unlink("run.json"), "run.json", "it is missing", RECONCILE),
    Wreck("run.json is a folder", folder("run.json"), "run.json", "it is a folder", RECONCILE),
    Wreck("the journal is missing", unlink("journal.jsonl"), "journal.jsonl", "it is missing", RECONCILE),
    Wreck("the journal is a folder", folder("journal.jsonl"), "journal.jsonl", "it is a folder", ASIDE),
    Wreck("the journal is a FIFO", fifo("journal.jsonl"), "journal.jsonl", "it is no regular file", ASIDE),
    Wreck("the journal is a broken link", dangling("journal.jsonl"), "journal.jsonl", "it is a symbolic link", ASIDE),
    Wreck("the lock is a folder", folder("lock"), "lock", "it is a folder", ASIDE),
    Wreck("the lock is a broken link", dangling("lock"), "lock", "it is a symbolic link", ASIDE),
    Wreck("the attic is a file", write("attic", "mine"), "attic", "it is a file, no folder", ASIDE),
    Wreck("claims/ is missing", lambda bench, one: _clear(one.layout.claims), "claims", "it is missing", MAKE),
    Wreck(
        "claims/ is a file",
        both(folder("claims"), lambda bench, one: (_clear(one.layout.claims), one.layout.claims.touch())),
        "claims",
        "it is a file, no folder",
        ASIDE,
    ),
    Wreck("claims/ is a broken link", dangling("claims"), "claims", "it is a symbolic link, no folder", ASIDE),
    Wreck(
        "steps/ is missing", lambda bench, one: _clear(one.layout.steps), "steps", "it is missing", MAKE, make=_fresh
    ),
    Wreck("steps/ is a FIFO", fifo("steps"), "steps", "it is no regular file, no folder", ASIDE, make=_fresh),
    Wreck("a claim is a folder", folder("claims/0002"), "claims/0002", "it is a folder", ASIDE),
    Wreck("a claim is a FIFO", fifo("claims/0002"), "claims/0002", "it is no regular file", ASIDE),
    Wreck("a claim is a broken link", dangling("claims/0002"), "claims/0002", "it is a symbolic link", ASIDE),
    Wreck("a claim is nonsense", write("claims/0002", "mine"), "claims/0002", "it is no claim", ASIDE),
    Wreck("a claim of a later epoch", write("claims/0002", _claim_of(9)), "claims/0002", "it is of epoch 9", ASIDE),
    Wreck("a claim of no step", write("claims/0099", _claim_of(1)), "claims/0099", "no such step", ASIDE),
    Wreck("a folder among the claims", folder("claims/mine"), "claims/mine", "no such step", ASIDE),
    Wreck("a checkpoint is nonsense", write(SAVED, "{"), SAVED, "line 1", ASIDE, make=paused_inside),
    Wreck("a checkpoint is a folder", folder(SAVED), SAVED, "it is a folder", ASIDE, make=paused_inside),
    Wreck("a checkpoint is a broken link", dangling(SAVED), SAVED, "it is a symbolic link", ASIDE, make=paused_inside),
    Wreck(
        "a checkpoint of a step that is done",
        _checkpoint_of_a_committed_step,
        "steps/0001-one.checkpoint.json",
        "its step is committed",
        ASIDE,
        NOTE,
    ),
    Wreck("the last commit is nonsense", write(TWO, "{"), TWO, "line 1", ASIDE, make=_two_done),
    Wreck(
        "the last commit is half a record",
        write(TWO, '{"result": 1}'),
        TWO,
        "'epoch' is missing",
        ASIDE,
        make=_two_done,
    ),
    Wreck("the last commit is a folder", folder(TWO), TWO, "it is a folder", ASIDE, make=_two_done),
    Wreck("the last commit is a FIFO", fifo(TWO), TWO, "it is no regular file", ASIDE, make=_two_done),
    Wreck("the commit before a checkpoint", write(ONE, ""), ONE, "it is empty", ASIDE, make=paused_inside),
    Wreck("the result is missing", unlink("result.json"), "result.json", "it is missing", WRITE, make=succeeded),
    Wreck(
        "the result is nonsense",
        write("result.json", "nonsense"),
        "result.json",
        "it is no JSON",
        WRITE,
        make=succeeded,
    ),
    Wreck(
        "the result is another",
        write("result.json", "4"),
        "result.json",
        "not what the last step's commit says",
        WRITE,
        make=succeeded,
    ),
    Wreck("the result is a folder", folder("result.json"), "result.json", "it is a folder", ASIDE, make=succeeded),
    Wreck("a result before the end", write("result.json", "4"), "result.json", "run.json says it goes on", ASIDE),
    Wreck("the error is missing", unlink("error.json"), "error.json", "it is missing", WRITE, make=failed),
    Wreck("the error is nonsense", write("error.json", "["), "error.json", "line 1", WRITE, make=failed),
    Wreck("the error is a folder", folder("error.json"), "error.json", "it is a folder", ASIDE, make=failed),
    Wreck("an error's place is taken", fifo("error.json"), "error.json", "it is no regular file", ASIDE),
    Wreck("it has not ended", _last_commit_by_hand, "", "all steps are committed", RECONCILE, NOTE, make=_two_done),
    Wreck("it is not in the index", lambda bench, one: one.leave_active(), "", "the index", RECONCILE),
    Wreck("its index entry is a folder", _entry_is_a_folder, "/active/<id>", "it is a folder", ASIDE),
    Wreck(
        "its index entry is left",
        _entry_of_a_final_one,
        "/active/<id>",
        "is succeeded",
        RECONCILE,
        NOTE,
        make=succeeded,
    ),
    Wreck("an index entry is of nothing", _entry(True), f"/active/{ABSENT}", "not there", REMOVE, NOTE),
    Wreck("there is no index", _no_index, "/active", "it is missing", MAKE),
    Wreck("the index is a file", _index_is_a_file, "/active", "it is a file, no folder", ASIDE),
    Wreck(
        "the supervisor's lock is a folder",
        lambda bench, one: bench.control.layout.supervisor_lock.mkdir(),
        "/supervisor.lock",
        "it is a folder",
        ASIDE,
    ),
    Wreck("a temporary file is left", _temporary(""), ".tmp-<pid>", "died while writing", REMOVE, NOTE),
    Wreck("one is left in steps/", _temporary("steps"), "steps/.tmp-<pid>", "died while writing", REMOVE, NOTE),
    Wreck("one is left in claims/", _temporary("claims"), "claims/.tmp-<pid>", "died while writing", REMOVE, NOTE),
    Wreck("half a start is left", _new(True), f"/operations/.new-{ABSENT}", "died while writing", REMOVE, NOTE),
    Wreck("a worker is gone", _dead_worker, "/workers/a@b", "its worker is gone", REMOVE, NOTE),
    Wreck("the commit before a group", write(ONE, "{"), ONE, "line 1", ASIDE, make=_tree("0001")),
    Wreck("the commit before a group at work", write(ONE, ""), ONE, "it is empty", ASIDE, make=_tree_with_a_checkpoint),
    Wreck("a member's commit", write(MEMBER, "{"), MEMBER, "line 1", ASIDE, make=_tree("0001", "0002/0001")),
    Wreck(
        "a commit inside a member",
        write("steps/0002/0002/0001-one.json", "{"),
        "steps/0002/0002/0001-one.json",
        "line 1",
        ASIDE,
        make=_tree("0001", "0002/0002/0001", "0002/0003"),
    ),
    Wreck(
        "a member's commit when the group is done",
        write(MEMBER, "{"),
        MEMBER,
        "line 1",
        ASIDE,
        make=_tree("0001", "0002/0002/0001", "0002/0001", "0002/0003", "0002/0002/0002"),
    ),
    Wreck(
        "a member's claim", write("claims/0002/0003", "mine"), "claims/0002/0003", "no claim", ASIDE, make=_tree("0001")
    ),
    Wreck(
        "a claim of no member", write("claims/0002/0009", "x"), "claims/0002/0009", "no such", ASIDE, make=_tree("0001")
    ),
    Wreck(
        "members' claims are a file",
        both(
            folder("claims/0002"),
            lambda bench, one: (_clear(one.path / "claims/0002"), write("claims/0002", "x")(bench, one)),
        ),
        "claims/0002",
        "where a folder for the claims of a group belongs",
        ASIDE,
        make=_tree("0001"),
    ),
    Wreck(
        "a given-up member's error",
        write(GIVEN_UP, "{"),
        GIVEN_UP,
        "line 1",
        WRITE,
        make=_tree("0001", failing="0002/0003"),
    ),
    Wreck(
        "a rewind is not finished", _rewinding, "run.json", "is not put aside yet", RECONCILE, NOTE, make=_paused_tree
    ),
    Wreck("gates/ is a file", write("gates", "mine"), "gates", "it is a file, no folder", ASIDE),
    Wreck(
        "a group's result is another",
        write("result.json", '[["0001"]]'),
        "result.json",
        "not what the commits of the last steps say",
        WRITE,
        make=_ended_group,
    ),
    Wreck("the format is missing", _no_format, "/format", "1 operations are there that nobody sees", WRITE),
]

#: What repair leaves to people, byte for byte.
LEFT = [
    Wreck("operation.json is missing", unlink("operation.json"), "operation.json", "it is missing", is_lost=True),
    Wreck("operation.json is nonsense", write("operation.json", "x"), "operation.json", "line 1"),
    Wreck("operation.json is another's", _other_id, "operation.json", "it is of operation", is_lost=True),
    Wreck(
        "the plan is missing",
        both(unlink("workflow.json"), folder("claims/0002")),
        "workflow.json",
        "it is missing",
        is_lost=True,
    ),
    Wreck(
        "the plan is nonsense",
        both(write("workflow.json", "x"), fifo("result.json")),
        "workflow.json",
        "line 1",
        is_lost=True,
    ),
    Wreck("a commit that is used", write(ONE, "{"), ONE, "line 1", make=_two_done),
    Wreck("a commit that nobody takes", write(ONE, "{"), ONE, "line 1", make=_immutable_next, is_lost=True),
    Wreck("a commit of a failed one", write(ONE, "{"), ONE, "line 1", make=failed, is_lost=True),
    Wreck("the last commit of all", write(THREE, "{"), THREE, "line 1", make=succeeded),
    Wreck(
        "result and last commit",
        both(write(THREE, "{"), unlink("result.json")),
        "result.json",
        "it is missing",
        make=succeeded,
        is_lost=True,
    ),
    Wreck("a commit of no step", write("steps/0009-one.json", "{}"), "steps/0009-one.json", "no such step"),
    Wreck(
        "a commit of a later epoch",
        write(ONE, '{"result": ["0001"], "epoch": 9, "attempt": 1}'),
        ONE,
        "it is of epoch 9",
    ),
    Wreck(
        "a gap",
        lambda bench, one: (one.path / ONE).rename(one.path / THREE),
        THREE,
        "step 0001-one before it is not",
        is_lost=True,
    ),
    Wreck("succeeded without all", unlink(TWO), "run.json", "step 0002-one is not committed", make=succeeded),
    Wreck(
        "a journal of nonsense",
        write("journal.jsonl", "nonsense\n"),
        "journal.jsonl",
        "no line of it can be read",
    ),
    Wreck("steps/ is lost", lambda bench, one: _clear(one.layout.steps), "steps", "steps were done"),
    Wreck("state.json may not be read", _mode("state.json", 0o020), "state.json", "may not read it (mode 0020)"),
    Wreck("the folder may not be written", _mode("", 0o550), "", "may not write it (mode 0550)", is_lost=True),
    Wreck("everybody may write", _mode("claims", 0o777), "claims", "everybody on this machine", severity=NOTE),
    Wreck("a young temporary file", _temporary("", is_old=False), ".tmp-<pid>", "being written", severity=NOTE),
    Wreck("one of a living process", _temporary("", os.getpid), ".tmp-<pid>", "being written", severity=NOTE),
    Wreck("a start that goes on", _new(False), f"/operations/.new-{ABSENT}", "being written", severity=NOTE),
    Wreck("a start with more in it", _new(True, True), f"/operations/.new-{ABSENT}", "being written", severity=NOTE),
    Wreck("a young index entry", _entry(False), f"/active/{ABSENT}", "not there", severity=NOTE),
    Wreck("a stranger", write("notes.txt", "mine"), "notes.txt", "knows no such file", severity=NOTE),
    Wreck("a stranger among steps", folder("steps/backup"), "steps/backup", "knows no such file", severity=NOTE),
    Wreck("a misspelt marker", write("pause", "mine"), "pause", "did you mean 'PAUSE'", severity=NOTE),
    Wreck("an error before the end", write("error.json", "{}"), "error.json", "there is an error", severity=NOTE),
    Wreck(
        "a commit that a member has used",
        write(ONE, "{"),
        ONE,
        "line 1",
        make=_tree("0001", "0002/0001"),
        is_lost=True,
    ),
    Wreck(
        "a commit that every member has used",
        write(ONE, "{"),
        ONE,
        "line 1",
        make=_tree("0001", "0002/0001", "0002/0002/0001", "0002/0003"),
    ),
    Wreck("a commit behind which something was put in", write(ONE, "{"), ONE, "line 1", make=_put_in),
    Wreck("a member's commit in a result", write(MEMBER, "{"), MEMBER, "line 1", make=_ended_group),
    Wreck(
        "a gap before a group",
        lambda bench, one: (one.path / ONE).unlink(),
        MEMBER,
        "step 0001-one before it is not",
        make=_tree("0001", "0002/0001"),
    ),
    Wreck("given up is no member", write("steps/0002.error.json", "{}"), "steps/0002.error.json", "no such member"),
    Wreck(
        "given up is a folder",
        folder(GIVEN_UP),
        GIVEN_UP,
        "it is a folder",
        make=_tree("0001", failing="0002/0003"),
        is_lost=True,
    ),
    Wreck("a commit of other arguments", _done_with_other_arguments, ONE, "other arguments than the plan has"),
    Wreck("no format, and one is odd", _no_format_and_strange, "/format", "nobody sees", is_lost=True),
]
