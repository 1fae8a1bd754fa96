"""Writing a want into `state.json`, as an editor would."""

from support.bench import Bench, events
from tapfs.bus.operation import Operation
from tapfs.bus.states import Want
from tapfs.bus.wants import write_want


def test_a_want_is_written_beside_what_stands_there(bench: Bench) -> None:
    operation = bench.start()
    before = operation.view()
    with operation.locked():
        write_want(operation, Want.PAUSE, "lunch")
    after = operation.state_file.read().view
    assert after is not None
    assert (after.want, after.reason, after.state, after.step) == ("pause", "lunch", before.state, before.step)


def test_a_want_makes_a_state_file_that_is_gone(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.unlink()
    with operation.locked():
        write_want(operation, Want.PAUSE, None)
    assert operation.view().want == "pause"


def requests(operation: Operation) -> list[tuple[str, str]]:
    return [(entry["want"], entry["reason"]) for entry in events(operation, "asked")]


def test_an_edit_that_nobody_took_in_yet_is_not_overwritten_unread(bench: Bench) -> None:
    operation = bench.start()
    with operation.locked():
        operation.layout.state.write_text('{"want": "pause", "reason": "by hand"}')
        write_want(operation, Want.RUN, "by verb")
    operation.reconcile()
    assert (operation.view().want, operation.view().reason) == ("pause", "by hand")
    assert requests(operation) == [("pause", "by hand")]


def test_an_edit_in_the_making_is_not_waited_for_and_counts_from_when_it_is_written(bench: Bench) -> None:
    """An editor has truncated the file; a verb is done meanwhile; then the editor writes."""
    operation = bench.start()
    with operation.layout.state.open("w") as editor:
        operation.pause("by verb")
        assert (operation.view().want, operation.view().reason) == ("pause", "by verb")
        editor.write('{"want": "run", "reason": "by hand"}')
    operation.reconcile()
    assert (operation.view().want, operation.view().reason) == ("run", "by hand")
    assert requests(operation) == [("pause", "by verb"), ("run", "by hand")]
    assert not list(operation.path.glob("*.rejected-*"))
