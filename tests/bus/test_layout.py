"""Where everything stands."""

from pathlib import Path

import pytest

from tapfs.bus.layout import ID, KNOWN, ControlLayout
from tapfs.bus.plan import Sequence, Step

GOOD = "20261122-101502-tally-k7f3q2"


def test_an_id_is_second_name_and_random() -> None:
    assert ID.fullmatch(GOOD)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../" + GOOD,
        GOOD + "\n",
        GOOD + "/",
        "\n" + GOOD,
        GOOD.upper(),
        "20261122-101502-ta..ly-k7f3q2",
        "20261122-101502--k7f3q2",
        "20261122-101502-tally-k7f3q",
        "٢٠٢٦١١٢٢-101502-tally-k7f3q2",
        "20261122-101502-" + "x" * 41 + "-k7f3q2",
        ".new-" + GOOD,
    ],
)
def test_nothing_else_is_an_id(name: str) -> None:
    assert not ID.fullmatch(name)


def test_the_files_of_an_operation_stand_as_the_design_says() -> None:
    layout = ControlLayout(Path("control")).operation(GOOD)
    step, member = Step("0003", "tally", "t"), Step("0002/0017", "resize", "t")
    base = f"control/operations/{GOOD}"
    assert {
        layout.identity: "operation.json",
        layout.plan: "workflow.json",
        layout.state: "state.json",
        layout.run: "run.json",
        layout.journal: "journal.jsonl",
        layout.result: "result.json",
        layout.error: "error.json",
        layout.commit(step): "steps/0003-tally.json",
        layout.commit(member): "steps/0002/0017-resize.json",
        layout.checkpoint(step): "steps/0003-tally.checkpoint.json",
        layout.once(step): "steps/0003-tally.once.jsonl",
        layout.given_up(member): "steps/0002/0017.error.json",
        layout.given_up(Sequence((step,), "0002/0018")): "steps/0002/0018.error.json",
        layout.gate(step): "gates/0003-tally",
        layout.claim("0003"): "claims/0003",
        layout.claim("0002/0017"): "claims/0002/0017",
        layout.attic_file("error.json", 2): "attic/epoch-2/error.json",
    } == {Path(base, name): name for name in _names()}
    assert layout.id == GOOD


def _names() -> list[str]:
    return [
        *("operation.json", "workflow.json", "state.json", "run.json", "journal.jsonl", "result.json", "error.json"),
        *("steps/0003-tally.json", "steps/0002/0017-resize.json", "steps/0003-tally.checkpoint.json", "claims/0003"),
        *(
            "steps/0003-tally.once.jsonl",
            "steps/0002/0017.error.json",
            "steps/0002/0018.error.json",
            "gates/0003-tally",
        ),
        "claims/0002/0017",
        "attic/epoch-2/error.json",
    ]


def test_every_folder_and_file_of_an_operation_is_known_by_its_name() -> None:
    layout = ControlLayout(Path("control")).operation(GOOD)
    folders = (layout.steps, layout.claims, layout.attic, layout.gates)
    files = (layout.identity, layout.plan, layout.state, layout.run, layout.journal, layout.result, layout.error)
    assert {path.name for path in (*folders, *files)} | {"PAUSE", "CANCEL", "lock"} == KNOWN


def test_the_files_of_a_control_directory_stand_as_the_design_says() -> None:
    layout = ControlLayout(Path("control"))
    found = [layout.format, layout.pause, layout.active, layout.operations, layout.broker]
    assert [path.name for path in found] == ["format", "PAUSE", "active", "operations", "broker"]
    assert layout.supervisor_lock == Path("control/supervisor.lock")
