"""The plan: a tree on disk, and its frontier."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bench import plan_of
from tapfs.bus.fields import Faulty
from tapfs.bus.plan import Plan, Sequence, Step, path_of, read_plan, sequence_of, short_name
from tapfs.errors import RecordInvalid

_VALUES = st.none() | st.integers() | st.text(max_size=5)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Trees of sequences, numbered in the order of their leaves."""
    numbers = iter(range(1, 1000))

    def step(values: tuple[list[object], dict[str, object], bool, dict[str, object]]) -> Step:
        args, kwargs, immutable, options = values
        return Step(path_of(next(numbers), 20), "step", "tasks.step", args, kwargs, immutable, options)

    objects = st.dictionaries(st.text(max_size=5), _VALUES, max_size=2)
    leaves = st.tuples(st.lists(_VALUES, max_size=2), objects, st.booleans(), objects).map(step)
    trees = st.recursive(leaves, lambda inner: st.lists(inner, min_size=1, max_size=3).map(sequence_of), max_leaves=8)
    root = sequence_of(draw(st.lists(trees, min_size=1, max_size=3)))
    return Plan(root, draw(st.integers(1, 5)), draw(_CLAUSES), draw(_CLAUSES))


_CLAUSES = st.none() | st.text(max_size=10) | st.just({"task": "tasks.clause"})


@given(plans())
def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    assert Plan.decode(plan.encode()) == plan


@given(plans(), st.data())
def test_the_frontier_is_the_first_step_that_is_not_committed(plan: Plan, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, len(plan.steps)))
    known = data.draw(st.integers(0, done))
    committed = {step.path for step in plan.steps[:done]}
    asked: list[str] = []

    def is_committed(step: Step) -> bool:
        asked.append(step.path)
        return step.path in committed

    count, frontier = plan.frontier(is_committed, known)
    assert count == done
    assert [step.path for step in frontier] == [step.path for step in plan.steps[done : done + 1]]
    assert asked == [step.path for step in plan.steps[known : done + 1]], "what is known to be done is not asked again"


def test_the_plan_stands_one_step_a_line_so_that_grep_finds_it() -> None:
    lines = plan_of(3).encode().decode().splitlines()
    assert [json.loads(line.rstrip(","))["path"] for line in lines if '"kind": "step"' in line] == [
        "0001",
        "0002",
        "0003",
    ]


def test_each_step_takes_the_result_of_the_one_before() -> None:
    inner = sequence_of([Step("0002", "b", "t.b"), Step("0003", "c", "t.c")])
    plan = Plan(sequence_of([Step("0001", "a", "t.a"), inner, Step("0004", "d", "t.d")]))
    assert [getattr(plan.before(step.path), "name", None) for step in plan.steps] == [None, "a", "b", "c"]
    assert [plan.place(step.path) for step in plan.steps] == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        plan.step("0005")


def test_there_is_a_tap_before_the_first_step_and_after_every_nth() -> None:
    plan = plan_of(7, nth=3)
    assert [step.path for step in plan.steps if plan.has_tap_before(step)] == ["0001", "0004", "0007"]
    assert all(plan_of(4).has_tap_before(step) for step in plan_of(4).steps)


def test_paths_sort_by_name_however_many_there_are() -> None:
    for total in (3, 9_999, 12_000):
        paths = [path_of(number, total) for number in (1, 2, 10, 999, total)]
        assert paths[0].lstrip("0") == "1"
        assert len({len(path) for path in paths}) == 1
    assert [path_of(3, 9), path_of(3, 10_000)] == ["0003", "00003"]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("tapfs.tally.check", "check"),
        ("check", "check"),
        ("shop.tasks.send mail/../x", "x"),
        ("a.b c/d", "b-c-d"),
        ("t." + "x" * 100, "x" * 40),
        ("t.äöü", "step"),
        ("", "step"),
    ],
)
def test_a_short_name_is_fit_for_a_file_name(task: str, name: str) -> None:
    assert short_name(task) == name


def faults_of(content: str) -> str:
    with pytest.raises(Faulty) as caught:
        Plan.decode(content.encode())
    return "; ".join(caught.value.faults)


def test_a_spoilt_plan_is_refused_with_the_place() -> None:
    step = {"kind": "step", "path": "0001", "name": "a", "task": "t.a"}
    sequence = {"kind": "sequence", "parts": [step]}
    assert faults_of("{}") == "field 'workflow' is missing"
    assert "the outermost part is no sequence" in faults_of(json.dumps({"workflow": step}))
    assert faults_of(json.dumps({"workflow": {"kind": "group"}})) == (
        "field 'workflow.kind': 'group' is none of step, sequence"
    )
    sequence["parts"] = [step, 5]
    assert faults_of(json.dumps({"workflow": sequence})) == "field 'workflow.parts[1]' is no object"
    sequence["parts"] = [step, {"kind": "step", "path": 2, "tsk": "t.b"}]
    found = faults_of(json.dumps({"workflow": sequence}))
    for fault in ("workflow.parts[1]: field \"tsk\" is unknown (did you mean 'task'?)", "field 'name' is missing"):
        assert fault in found
    assert "field 'path': 2 is a whole number, not a text" in found


def test_a_step_that_stands_there_twice_is_refused_and_every_such_step_is_named() -> None:
    """B35: which of the two was done could not be told apart."""
    step = {"kind": "step", "path": "0001", "name": "a", "task": "t.a"}
    inner = {"kind": "sequence", "parts": [step, step | {"path": "0002"}]}
    parts = [step, inner, step | {"path": "0003"}, step | {"path": "0002", "name": "other"}]
    found = faults_of(json.dumps({"workflow": {"kind": "sequence", "parts": parts}}))
    assert "step 0001 stands there 2 times" in found
    assert "step 0002 stands there 2 times" in found
    assert "0003" not in found


@pytest.mark.parametrize("limit", [None, 0.5, 3600])
def test_a_maximum_running_time_is_kept_with_the_plan(limit: float | None) -> None:
    """B62."""
    plan = plan_of(2, max_running_s=limit)
    assert Plan.decode(plan.encode()).max_running_s == limit


def test_a_plan_of_a_version_without_a_maximum_running_time_has_none() -> None:
    """B76."""
    document = json.loads(plan_of(1).encode())
    del document["max_running_s"]
    assert Plan.decode(json.dumps(document).encode()).max_running_s is None
    document["max_running_s"] = "long"
    assert "field 'max_running_s'" in faults_of(json.dumps(document))


def test_a_name_that_is_not_utf_8_survives_the_plan() -> None:
    plan = Plan(sequence_of([Step("0001", "a", "t.a", args=["caf\udce9.csv"])]))
    assert Plan.decode(plan.encode()) == plan


def test_a_plan_is_read_once_while_its_file_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_bytes(plan_of(2).encode())
    first = read_plan(str(path))
    assert read_plan(str(path)) is first
    path.write_bytes(plan_of(3).encode())
    assert len(read_plan(str(path)).steps) == 3


def test_of_many_plans_only_the_last_are_remembered(tmp_path: Path) -> None:
    def write(number: int) -> str:
        path = tmp_path / f"{number}.json"
        path.write_bytes(plan_of(1).encode())
        return str(path)

    first = read_plan(write(0))
    for number in range(1, 40):
        read_plan(write(number))
    assert read_plan(str(tmp_path / "0.json")) == first
    assert read_plan(str(tmp_path / "0.json")) is not first


def test_a_plan_that_is_none_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_plan(str(tmp_path / "nothing"))
    (tmp_path / "spoilt").write_text("{}")
    os.mkfifo(tmp_path / "fifo")
    for name, fault in (("spoilt", "field 'workflow' is missing"), ("fifo", "it is not a regular file")):
        with pytest.raises(RecordInvalid, match=fault) as caught:
            read_plan(str(tmp_path / name))
        assert caught.value.path == str(tmp_path / name)


def test_a_sequence_in_a_sequence_is_a_sequence() -> None:
    inner = Sequence((Step("0001", "a", "t.a"),))
    assert [step.label for step in Plan(Sequence((inner, Sequence(()), inner))).steps] == ["0001-a", "0001-a"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"nth": 0}, "'nth'"),
        ({"nth": -3}, "'nth'"),
        ({"max_running_s": 0}, "'max_running_s'"),
        ({"workflow": {"kind": "sequence", "parts": []}}, "has no step"),
    ],
)
def test_a_plan_that_can_never_run_is_refused(changes: dict[str, object], fault: str) -> None:
    """So it is held and can be cancelled, as one that cannot be read; and keeps no other operation from being asked."""
    content = json.dumps(json.loads(plan_of(2).encode()) | changes)
    assert fault in faults_of(content)


@pytest.mark.parametrize(
    ("field", "value"),
    [("path", "../../x"), ("path", "0001/../../x"), ("path", ""), ("path", "/0001"), ("name", "a/b"), ("name", "")],
)
def test_a_step_that_would_lead_outside_its_operation_is_refused(field: str, value: str) -> None:
    plan = json.loads(plan_of(2).encode())
    plan["workflow"]["parts"][1][field] = value
    assert f"parts[1].{field}" in faults_of(json.dumps(plan))
