"""What the parts of a plan give back."""

import pytest

from support.bench import Bench
from support.trees import PAIR, STEP, group_of, tree_of, value_by_paths, wide
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Part
from tapfs.bus.records import Failure
from tapfs.bus.values import value_of
from tapfs.errors import RecordInvalid


def by_paths(bench: Bench, *parts: Part) -> Operation:
    """An operation of which all is done, each step with its path behind what it got."""
    operation = bench.start_tree(*parts)
    while not operation.ready():
        held = bench.claim_at(operation, bench.out(operation)[0])
        before = operation.plan().before(held.step)
        bench.commit(operation, held, [*(value_of(operation, before) if before else []), held.step.path])
    return operation


def test_a_step_gives_its_result_a_chain_its_last_one_and_a_group_the_list_in_the_order_of_its_members(
    bench: Bench,
) -> None:
    operation = bench.start_tree(group_of(STEP, PAIR, wide(2)))
    for path in ("0001/0003/0002", "0001/0002/0001", "0001/0003/0001", "0001/0002/0002", "0001/0001"):
        bench.do(operation, path)
    plan = operation.plan()
    assert value_of(operation, plan.step("0001/0002/0001")) == "0001/0002/0001"
    assert value_of(operation, plan.part("0001/0002")) == "0001/0002/0002"
    assert value_of(operation, plan.part("0001/0003")) == ["0001/0003/0001", "0001/0003/0002"]
    assert operation.result == ["0001/0001", "0001/0002/0002", ["0001/0003/0001", "0001/0003/0002"]]


@pytest.mark.parametrize(
    "parts",
    [
        (STEP, STEP),
        (wide(3),),
        (wide(2), wide(2)),
        (STEP, group_of(PAIR, PAIR), STEP),
        (group_of(group_of(STEP, PAIR), STEP), STEP),
        (PAIR, wide(1), PAIR),
    ],
    ids=["chain", "group", "groups in a row", "chord in the middle", "groups in groups", "chains in a chain"],
)
def test_the_result_is_that_of_the_same_tree_evaluated_plainly(bench: Bench, parts: tuple[Part, ...]) -> None:
    operation = by_paths(bench, *parts)
    assert operation.result == value_by_paths(tree_of(*parts).root)


def test_in_the_place_of_a_member_that_failed_stands_its_error(bench: Bench) -> None:
    operation = bench.start_tree(wide(3, on_error=CONTINUE), STEP)
    bench.fail_at(operation, "0001/0002", "no such image")
    bench.do(operation, "0001/0001")
    bench.do(operation, "0001/0003")
    error = {"error": {"type": "ValueError", "message": "no such image", "step": "0001/0002-one"}}
    assert value_of(operation, operation.plan().part("0001")) == ["0001/0001", error, "0001/0003"]


def test_in_the_place_of_a_chain_that_failed_stands_the_error_of_the_step_that_did(bench: Bench) -> None:
    operation = bench.start_tree(group_of(PAIR, PAIR, on_error=CONTINUE))
    bench.do(operation, "0001/0001/0001")
    bench.fail_at(operation, "0001/0001/0002")
    bench.do(operation, "0001/0002/0001")
    bench.do(operation, "0001/0002/0002")
    assert isinstance(operation.result, list)
    assert operation.result[0]["error"]["step"] == "0001/0001/0002-one"
    assert operation.result[1] == "0001/0002/0002"


def test_a_member_that_ended_before_it_could_be_given_up_keeps_its_value(bench: Bench) -> None:
    operation = by_paths(bench, wide(2))
    failure = Failure(type="Cancelled", step="0001/0001-one")
    operation.layout.given_up(operation.plan().part("0001/0001")).write_bytes(failure.encode())
    assert value_of(operation, operation.plan().root) == [["0001/0001"], ["0001/0002"]]


def test_what_is_not_done_has_no_value(bench: Bench) -> None:
    operation = bench.start_tree(wide(2), STEP)
    bench.do(operation, "0001/0001")
    plan = operation.plan()
    for path in ("0001/0002", "0001", "0002"):
        with pytest.raises(FileNotFoundError):
            value_of(operation, plan.part(path))
    with pytest.raises(FileNotFoundError):
        value_of(operation, plan.root)


def test_a_value_that_cannot_be_read_is_told_with_its_file(bench: Bench) -> None:
    operation = bench.start_tree(wide(2, on_error=CONTINUE), STEP)
    bench.do(operation, "0001/0001")
    bench.do(operation, "0001/0002")
    (operation.layout.steps / "0001/0002-one.json").write_text("{")
    with pytest.raises(RecordInvalid, match=r"0001/0002-one\.json"):
        value_of(operation, operation.plan().part("0001"))


def test_a_member_given_up_by_hand_with_any_text_is_left_out_and_fails_nobody(bench: Bench) -> None:
    operation = bench.start_tree(wide(2, on_error=CONTINUE), STEP)
    bench.do(operation, "0001/0001")
    bench.fail_at(operation, "0001/0002")
    (operation.layout.steps / "0001/0002.error.json").write_text("it never worked")
    first, second = value_of(operation, operation.plan().part("0001"))
    assert (first, second["error"]["type"]) == (0, "Unreadable") or second["error"]["type"] == "Unreadable"
