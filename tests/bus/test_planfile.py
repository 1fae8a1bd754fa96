"""`workflow.json`: written and read back, and refused with the place where it is none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from support.bench import plan_of
from support.trees import PAIR, STEP, group_of, plans, tree_of, wide
from tapfs.bus.fields import Faulty
from tapfs.bus.plan import CONCURRENCY, Group, Plan, Sequence, Step, placed
from tapfs.bus.planfile import decode_plan, encode_plan, read_plan
from tapfs.errors import RecordInvalid


@settings(deadline=None)
@given(plans())
def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    again = decode_plan(encode_plan(plan))
    assert again == plan
    assert not again.is_edited
    assert encode_plan(again) == encode_plan(plan)


def test_what_a_step_put_in_is_read_as_it_was_written() -> None:
    parts = (placed(STEP, "0001"), placed(group_of(STEP, PAIR), "0001.0001", "0001"), placed(PAIR, "0001.0002", "0001"))
    plan = Plan(Sequence(tuple(parts)))
    assert decode_plan(encode_plan(plan)) == plan
    assert decode_plan(encode_plan(plan)).putters == {"0001"}


def test_the_plan_stands_one_step_a_line_so_that_grep_finds_it() -> None:
    lines = encode_plan(plan_of(3)).decode().splitlines()
    assert [json.loads(line.rstrip(","))["path"] for line in lines if '"kind": "step"' in line] == [
        "0001",
        "0002",
        "0003",
    ]


def faults_of(content: str) -> str:
    with pytest.raises(Faulty) as caught:
        decode_plan(content.encode())
    return "; ".join(caught.value.faults)


def test_a_spoilt_plan_is_refused_with_the_place() -> None:
    step = {"kind": "step", "path": "0001", "name": "a", "task": "t.a"}
    sequence = {"kind": "sequence", "parts": [step]}
    assert faults_of("{}") == "field 'workflow' is missing"
    assert "the outermost part is no sequence" in faults_of(json.dumps({"workflow": step}))
    assert faults_of(json.dumps({"workflow": {"kind": "loop"}})) == (
        "field 'workflow.kind': 'loop' is none of step, sequence, group"
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
    assert decode_plan(encode_plan(plan)).max_running_s == limit


def test_a_plan_of_a_version_without_a_maximum_running_time_has_none() -> None:
    """B76."""
    document = json.loads(encode_plan(plan_of(1)))
    del document["max_running_s"]
    assert decode_plan(json.dumps(document).encode()).max_running_s is None
    document["max_running_s"] = "long"
    assert "field 'max_running_s'" in faults_of(json.dumps(document))


def test_a_name_that_is_not_utf_8_survives_the_plan() -> None:
    plan = Plan(Sequence((Step("0001", "a", "t.a", args=["caf\udce9.csv"]),)))
    assert decode_plan(encode_plan(plan)) == plan


def test_a_plan_is_read_once_while_its_file_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_bytes(encode_plan(plan_of(2)))
    first = read_plan(str(path))
    assert read_plan(str(path)) is first
    path.write_bytes(encode_plan(plan_of(3)))
    assert len(read_plan(str(path)).steps) == 3


def test_of_many_plans_only_the_last_are_remembered(tmp_path: Path) -> None:
    def write(number: int) -> str:
        path = tmp_path / f"{number}.json"
        path.write_bytes(encode_plan(plan_of(1)))
        return str(path)

    first = read_plan(write(0))
    for number in range(1, 257):
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


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"nth": 0}, "'nth'"),
        ({"nth": -3}, "'nth'"),
        ({"max_running_s": 0}, "'max_running_s'"),
        ({"workflow": {"kind": "sequence", "parts": []}}, "field 'workflow.parts' has no part"),
    ],
)
def test_a_plan_that_can_never_run_is_refused(changes: dict[str, object], fault: str) -> None:
    """So it is held and can be cancelled, as one that cannot be read; and keeps no other operation from being asked."""
    content = json.dumps(json.loads(encode_plan(plan_of(2))) | changes)
    assert fault in faults_of(content)


@pytest.mark.parametrize(
    ("field", "value"),
    [("path", "../../x"), ("path", "0001/../../x"), ("path", ""), ("path", "/0001"), ("name", "a/b"), ("name", "")],
)
def test_a_step_that_would_lead_outside_its_operation_is_refused(field: str, value: str) -> None:
    plan = json.loads(encode_plan(plan_of(2)))
    plan["workflow"]["parts"][1][field] = value
    assert f"parts[1].{field}" in faults_of(json.dumps(plan))


def document_of(plan: Plan) -> dict[str, Any]:
    found = json.loads(encode_plan(plan))
    assert isinstance(found, dict)
    return found


#: The plan `group_of(STEP, PAIR)` between two steps, a change of one part of it by its place, and what is said.
TREE = tree_of(STEP, group_of(STEP, PAIR), STEP)
GROUP = ("parts", 1)
MEMBER = (*GROUP, "members", 1)
SPOILT: dict[str, tuple[tuple[str | int, ...], dict[str, Any], str]] = {
    "no members": (GROUP, {"members": []}, "field 'workflow.parts[1].members' has no member"),
    "members are no list": (GROUP, {"members": {}}, "workflow.parts[1]: field 'members': {} is an object, not a list"),
    "no concurrency": (GROUP, {"concurrency": 0}, "field 'workflow.parts[1].concurrency': 0 is no whole number from 1"),
    "half a concurrency": (GROUP, {"concurrency": 1.5}, "'concurrency'"),
    "another way with errors": (GROUP, {"on_error": "ignore"}, "'on_error'"),
    "a path outside": (GROUP, {"path": "../0002"}, "field 'workflow.parts[1].path': '../0002' is none"),
    "a path that names no place": (GROUP, {"path": "2"}, "field 'workflow.parts[1].path': '2' is none"),
    "a path with a newline": (GROUP, {"path": "0002\n"}, "field 'workflow.parts[1].path'"),
    "put in by nobody": (GROUP, {"by": "x"}, "field 'workflow.parts[1].by': 'x' is none"),
    "an unknown field": (GROUP, {"membres": []}, "field \"membres\" is unknown (did you mean 'members'?)"),
    "an unknown kind": (GROUP, {"kind": "grop"}, "field 'workflow.parts[1].kind': 'grop' is none of step, sequence"),
    "no kind": (GROUP, {"kind": None}, "field 'workflow.parts[1].kind': None is none of"),
    "a member that is an empty chain": (
        MEMBER,
        {"parts": []},
        "field 'workflow.parts[1].members[1].parts' has no part",
    ),
    "a member's path outside": (MEMBER, {"path": "0002/../.."}, "field 'workflow.parts[1].members[1].path'"),
    "two members of one path": (
        (*GROUP, "members", 0),
        {"path": "0002/0002/0001"},
        "step 0002/0002/0001 stands there 2 times",
    ),
    "a step that is a member too": (
        (*GROUP, "members", 0),
        {"path": "0002/0002"},
        "0002/0002 is a step, and a group or member too",
    ),
    "a step under another": (("parts", 0), {"path": "0002"}, "0002 is a step, and a group or member too"),
    "a name that leads away": ((*MEMBER, "parts", 0), {"name": "a/b"}, "members[1].parts[0].name': 'a/b' is none"),
    "a name too long": ((*MEMBER, "parts", 0), {"name": "a" * 41}, "members[1].parts[0].name'"),
    "arguments that are none": ((*MEMBER, "parts", 0), {"args": 5}, "'args'"),
}


@pytest.mark.parametrize("case", sorted(SPOILT))
def test_a_spoilt_tree_is_refused_with_the_place(case: str) -> None:
    place, changes, fault = SPOILT[case]
    document = document_of(TREE)
    part = document["workflow"]
    for one in place:
        part = part[one]
    part.update(changes)
    assert fault in faults_of(json.dumps(document))


def test_a_group_that_does_not_say_where_it_stands_is_refused() -> None:
    document = document_of(TREE)
    del document["workflow"]["parts"][1]["path"]
    assert faults_of(json.dumps(document)) == "workflow.parts[1]: field 'path' is missing"


def test_a_tree_that_is_nested_too_deeply_is_refused() -> None:
    step = '{"kind": "step", "path": "0001", "name": "a", "task": "t.a"}'
    content = '{"workflow": ' + '{"kind": "sequence", "parts": [' * 400 + step + "]}" * 400 + "}"
    assert "too deep" in faults_of(content) or "depth" in faults_of(content)


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "many", None])
def test_an_operation_of_which_no_step_may_be_out_is_refused(concurrency: object) -> None:
    document = document_of(TREE) | {"concurrency": concurrency}
    assert "'concurrency'" in faults_of(json.dumps(document))


def test_a_plan_that_says_nothing_of_groups_is_read_with_the_usual_limits() -> None:
    """B76: one of an earlier version."""
    document = document_of(TREE)
    del document["concurrency"], document["crc"], document["workflow"]["parts"][1]["on_error"]
    plan = decode_plan(json.dumps(document).encode())
    group = plan.part("0002")
    assert isinstance(group, Group)
    assert (plan.concurrency, group.concurrency, group.on_error) == (CONCURRENCY, None, "fail")


def test_an_edit_is_seen_whatever_editor_made_it_and_stays_seen() -> None:
    """B35: only then are the arguments of what is done compared (they are in every commit)."""
    content = encode_plan(tree_of(Step("", "one", "test.one", args=[1]), wide(3)))
    assert not decode_plan(content).is_edited
    for changed in (
        content.replace(b'"args": [1]', b'"args": [2]'),
        json.dumps(json.loads(content), indent=2).encode(),
    ):
        plan = decode_plan(changed)
        assert plan.is_edited
        assert decode_plan(encode_plan(plan)).is_edited, "also after tapfs itself has put something in"


def test_what_is_said_of_the_whole_plan_may_be_edited() -> None:
    content = encode_plan(tree_of(STEP, wide(3))).replace(b'"concurrency": 16', b'"concurrency": 2')
    plan = decode_plan(content)
    assert (plan.concurrency, plan.is_edited) == (2, False)


def test_every_step_of_a_tree_stands_in_a_line_of_its_own() -> None:
    lines = encode_plan(TREE).decode().splitlines()
    steps = [json.loads(line.rstrip(",")) for line in lines if '"kind": "step"' in line]
    assert [step["path"] for step in steps] == [step.path for step in TREE.steps]
    assert all("by" not in step for step in steps)
