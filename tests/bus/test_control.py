"""The control directory: its format, operations by name, and making a new one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Processes
from support.bench import Bench, plan_of, snapshot
from support.mortal import deaths
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.layout import ID
from tapfs.bus.operation import Operation
from tapfs.bus.states import State, Want
from tapfs.errors import ControlUnusable, OperationUnknown, TapfsError


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def new(name: str = "tally", **more: object) -> NewOperation:
    return NewOperation(name, plan_of(2), {}, **more)  # type: ignore[arg-type]


# ---- the directory


def test_looking_makes_nothing(tmp_path: Path) -> None:
    control = Control(tmp_path / "control")
    assert control.check() is False
    assert (control.ids(), control.active_ids()) == ([], [])
    with pytest.raises(OperationUnknown, match="has none") as caught:
        control.find("tally")
    assert caught.value.hint == "'tapfs start' makes one"
    assert list(tmp_path.iterdir()) == []


def test_the_first_who_writes_sets_it_up_and_the_second_changes_nothing(tmp_path: Path) -> None:
    control = Control(tmp_path / "deep" / "control")
    control.prepare()
    before = snapshot(tmp_path)
    assert before["deep/control/format"] == b"tapfs 1\n"
    assert control.check()
    control.prepare()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", [b"tapfs 2\n", b"", b"something else", b"\xff\xfe", b"tapfs 1\ntapfs 1\n"])
def test_another_format_is_refused_and_nothing_is_changed(bench: Bench, content: bytes) -> None:
    operation = bench.start()
    bench.control.layout.format.write_bytes(content)
    before = snapshot(bench.path)
    fresh = Control(bench.path, publisher=lambda _: None)
    for ask in (fresh.check, fresh.prepare, fresh.ids, lambda: fresh.find(operation.id), lambda: fresh.start(new())):
        with pytest.raises(ControlUnusable, match="this tapfs knows 'tapfs 1'") as caught:
            ask()
        assert "nothing was changed" in str(caught.value.hint)
    assert snapshot(bench.path) == before


@pytest.mark.parametrize("kind", ["folder", "link", "FIFO"])
def test_a_format_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "format"
    {"folder": path.mkdir, "link": lambda: path.symlink_to("x"), "FIFO": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(ControlUnusable, match=r"cannot read '.*/format'"):
        Control(tmp_path).check()


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("mine")
    for control in (Control(tmp_path / "control"), Control(tmp_path / "control" / "deeper")):
        with pytest.raises(ControlUnusable, match="it is no folder"):
            control.start(new())
    assert (tmp_path / "control").read_text() == "mine"


def test_a_directory_where_nothing_can_be_made_is_refused_with_what_to_do() -> None:
    with pytest.raises(ControlUnusable, match="cannot set up '/proc/tapfs' as control directory") as caught:
        Control("/proc/tapfs").start(new())
    assert caught.value.hint == "name another with --control or TAPFS_CONTROL"


READ_ONLY = """
import os, sys, tempfile
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.plan import Plan, Sequence, Step
from tapfs.errors import ControlUnusable, TapfsError

# What is imported late is imported now: the other user may not be allowed to read this Python.
with tempfile.TemporaryDirectory() as scratch:
    plan = Plan(Sequence((Step("0001", "a", "a"),)))
    Control(scratch).start(NewOperation("tally", plan, {})).pause()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
control = Control(sys.argv[1])
operation = control.find(sys.argv[2])
print(operation.view().state, operation.identity().operation)
for ask in (
    lambda: control.start(NewOperation("tally", plan, {})),
    operation.pause,
):
    try:
        ask()
    except ControlUnusable as error:
        print("refused:", error)
"""


def test_a_read_only_directory_can_be_looked_at_and_every_verb_is_refused(bench: Bench, processes: Processes) -> None:
    operation = bench.start()
    operation.pause()
    while operation.reconcile().look_again:
        pass
    for base, _, names in os.walk(bench.path):
        for name in names:
            os.chmod(os.path.join(base, name), 0o444)
        os.chmod(base, 0o555)
    for parent in bench.path.parents:
        if "pytest-" in str(parent):
            os.chmod(parent, 0o755)
    before = snapshot(bench.path)
    process = processes.python("-c", READ_ONLY, bench.path, operation.id)
    assert process.wait() == 0, process.output
    lines = process.output.splitlines()
    assert lines[0] == "paused tally"
    assert "cannot make an operation in" in lines[1]
    assert "Permission denied" in lines[1]
    assert "cannot lock" in lines[2]
    assert snapshot(bench.path) == before


# ---- making an operation


def test_a_new_operation_is_whole_indexed_and_published(bench: Bench) -> None:
    operation = bench.start(2)
    assert ID.fullmatch(operation.id)
    assert operation.id.startswith("20270115-080000-tally-")
    assert bench.control.ids() == bench.control.active_ids() == [operation.id]
    view = operation.view()
    assert (view.state, view.want, view.step, view.steps_done, view.steps_total) == ("queued", "run", "0001-one", 0, 2)
    assert [one.step.path for one in bench.published] == ["0001"]
    assert bench.control.operation(operation.id) is operation


def test_it_can_be_started_held(bench: Bench) -> None:
    operation = bench.start(want=Want.PAUSE, reason="tomorrow")
    assert (operation.state, operation.view().reason) == (State.PAUSED, "tomorrow")
    assert bench.published == []


def test_it_cannot_be_started_with_a_reason_that_could_not_be_read_back(bench: Bench) -> None:
    """B20, B94."""
    with pytest.raises(TapfsError, match="1,001 characters"):
        bench.start(want=Want.PAUSE, reason="x" * 1001)
    assert bench.control.ids() == []


@pytest.mark.parametrize(
    ("name", "part"),
    [("tally", "-tally-"), ("Mail Merge/../x", "-mail_merge_x-"), ("äöü", "-operation-"), ("x" * 99, f"-{'x' * 40}-")],
)
def test_an_id_keeps_of_the_name_what_fits(bench: Bench, name: str, part: str) -> None:
    operation = bench.control.start(new(name))
    assert part in operation.id
    assert ID.fullmatch(operation.id)
    assert operation.identity().operation == name


def test_ids_sort_by_time(bench: Bench) -> None:
    ids = []
    for _ in range(3):
        ids.append(bench.start().id)
        bench.now += 1
    assert bench.control.ids() == ids


def test_death_at_any_write_of_a_start_leaves_no_half_operation(bench: Bench) -> None:
    bench.control.prepare()
    whole = 0
    for _ in deaths(lambda: bench, lambda one: Control(one.path, publisher=lambda _: None).start(new())):
        for one in Control(bench.path).ids()[whole:]:
            whole += 1
            operation = Control(bench.path, publisher=bench.published.append).find(one)
            assert operation.identity().id == one
            assert operation.reconcile().state is State.QUEUED
            assert one in bench.control.active_ids(), "an operation that is not indexed would be lost"
    assert whole > 1


def test_an_index_entry_without_an_operation_is_harmless(bench: Bench) -> None:
    operation = bench.start()
    lost = operation.id[:-6] + "aaaaaa"
    (bench.control.layout.active / lost).touch()
    (bench.control.layout.active / "README").touch()
    assert bench.control.active_ids() == sorted([operation.id, lost])
    with pytest.raises(OperationUnknown):
        bench.control.operation(lost).reconcile()
    assert bench.control.ids() == [operation.id]


def test_an_operation_that_cannot_be_made_leaves_nothing_behind(bench: Bench) -> None:
    bench.control.prepare()
    bench.control.layout.active.rmdir()
    bench.control.layout.active.write_text("in the way")
    with pytest.raises(ControlUnusable, match="cannot make an operation") as caught:
        bench.control.start(new())
    assert caught.value.hint == "nothing was started"
    assert list(bench.control.layout.operations.iterdir()) == []


def test_arguments_that_json_cannot_hold_leave_nothing_behind(bench: Bench) -> None:
    with pytest.raises(TypeError):
        bench.control.start(NewOperation("tally", plan_of(1), {"path": {1, 2}}))
    assert list(bench.control.layout.operations.iterdir()) == []


def test_arguments_with_a_name_that_is_not_utf_8_are_kept(bench: Bench) -> None:
    operation = bench.control.start(NewOperation("tally", plan_of(1), {"path": "caf\udce9.csv"}))
    assert operation.identity().arguments == {"path": "caf\udce9.csv"}


@pytest.mark.usefixtures("umask_027")
def test_all_it_makes_is_the_owners_and_the_groups_less_the_umask(bench: Bench) -> None:
    """B105."""
    operation = bench.start(1)
    bench.fail(operation)
    operation.resume()
    bench.finish(operation)
    (operation.path / "PAUSE").unlink(missing_ok=True)
    modes = {path: path.stat().st_mode & 0o777 for path in bench.path.rglob("*")}
    assert {path for path, mode in modes.items() if mode != (0o750 if path.is_dir() else 0o640)} == set()
    assert bench.path.stat().st_mode & 0o777 == 0o750


# ---- finding one


def make(bench: Bench, *names: str) -> None:
    bench.control.prepare()
    for name in names:
        (bench.control.layout.operations / name).mkdir()
        (bench.control.layout.operations / name / "operation.json").write_text("{}")


ONE, TWO = "20261122-101502-tally-k7f3q2", "20261122-101502-tally-k7f3zz"


@pytest.mark.parametrize("part", [ONE, "k7f3q2", "f3q2", "y-k7f3q", ONE[:-1]])
def test_any_unambiguous_part_of_an_id_finds_it(bench: Bench, part: str) -> None:
    make(bench, ONE, TWO)
    found = bench.control.find(part)
    assert isinstance(found, Operation)
    assert found.id == ONE


def test_a_part_of_many_is_refused_with_some_of_them(bench: Bench) -> None:
    make(bench, ONE, TWO, *(f"20261122-101503-tally-aaaaa{number}" for number in range(5)))
    with pytest.raises(OperationUnknown, match="'tally' could be any of 7 operations") as caught:
        bench.control.find("tally")
    assert str(caught.value.hint).startswith("name one: 20261122-101503-tally-aaaaa4, ")
    assert str(caught.value.hint).endswith(" and 2 more")


@pytest.mark.parametrize("part", ["k7f3q3", "20261122-101502-taly-k7f3q2", "K7F3Q2X"])
def test_an_unknown_name_is_refused_with_a_near_one(bench: Bench, part: str) -> None:
    make(bench, ONE)
    with pytest.raises(OperationUnknown, match=f"no operation '{part}'") as caught:
        bench.control.find(part)
    assert caught.value.hint == f"did you mean '{ONE}'?"


def test_an_unknown_name_that_is_near_to_none_is_refused_with_those_there_are(bench: Bench) -> None:
    make(bench, ONE, TWO)
    with pytest.raises(OperationUnknown) as caught:
        bench.control.find("zebra")
    assert caught.value.hint == f"there are: {TWO}, {ONE}"


@pytest.mark.parametrize("part", ["", "..", "../operations", ONE + "\n", "\n", "/", f"../operations/{ONE}", ONE + "/"])
def test_a_name_that_is_no_part_of_an_id_finds_nothing(bench: Bench, part: str) -> None:
    make(bench, ONE)
    with pytest.raises(OperationUnknown):
        bench.control.find(part)


def test_what_is_no_operation_is_not_listed(bench: Bench) -> None:
    make(bench, ONE)
    for name in (f".new-{TWO}", "README.md", "lost+found", TWO + "\n"):
        (bench.control.layout.operations / name).mkdir()
    assert bench.control.ids() == [ONE]


def test_only_so_many_operations_are_remembered(bench: Bench) -> None:
    first = bench.control.operation(ONE)
    assert bench.control.operation(ONE) is first
    for number in range(300):
        bench.control.operation(f"20261122-101502-tally-{number:06d}")
    assert bench.control.operation(ONE) is not first
