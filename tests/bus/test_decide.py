"""The one decision, branch by branch; no file, no clock, no lock."""

from dataclasses import replace
from typing import Any

import pytest

from support.bench import START, plan_of
from tapfs.bus.claims import Out
from tapfs.bus.clock import timestamp
from tapfs.bus.decide import Decision, Facts, Recovery, decide
from tapfs.bus.plan import Step
from tapfs.bus.records import Claim, Run
from tapfs.bus.requests import Request
from tapfs.bus.states import FINAL, State, Want
from tapfs.errors import TapfsError

FIRST, SECOND = plan_of(2).steps
RECOVERY = Recovery(first_delay_s=10, longest_delay_s=60, max_crashes=3)
STARTED = Run(epoch=1, started_at=timestamp(START))
HOLDER = {"worker": "w", "host": "h", "pid": 1, "claimed_at": timestamp(START)}


def out(path: str = "0001", *, held: bool = False, dead: bool = False, **fields: Any) -> Out:
    base: dict[str, Any] = {"epoch": 1, "attempt": 1, "publishes": 1, "published_at": timestamp(START)}
    claim = Claim(**(base | fields), holder=HOLDER if held or dead else None)
    return Out(path, claim, held)


def decided(
    *outs: Out,
    run: Run = STARTED,
    want: Want = Want.RUN,
    frontier: tuple[Step, ...] = (FIRST,),
    now: float = START,
    can_publish: bool = True,
    **facts: Any,
) -> Decision:
    """Decide by facts as `Facts` takes them; with no frontier the plan is complete, unless something else is said."""
    facts = {"is_complete": not frontier} | facts
    request = Request(want, "because", "PAUSE", "file:PAUSE")
    return decide(Facts(run, request, outs, frontier, **facts), now, RECOVERY, can_publish=can_publish)


def put_out(decision: Decision) -> Claim:
    (one,) = decision.put_out
    return one.claim


def test_what_is_not_out_is_put_out() -> None:
    decision = decided(run=Run(epoch=1))
    assert decision.state is State.QUEUED
    assert put_out(decision) == Claim(epoch=1, attempt=1, publishes=1, published_at=timestamp(START))


def test_nothing_is_put_out_by_who_cannot_publish() -> None:
    decision = decided(can_publish=False)
    assert (decision.state, decision.put_out) == (State.RUNNING, ())


def test_an_operation_is_queued_until_its_first_claim_and_runs_from_then() -> None:
    assert decided(out(), run=Run(epoch=1)).state is State.QUEUED
    assert decided(out()).state is State.RUNNING
    assert decided(out(held=True), run=Run(epoch=1)).state is State.RUNNING


def test_nothing_leads_back_to_queued_also_not_a_resume_before_the_first_claim() -> None:
    """B107."""
    decision = decided(run=Run(epoch=1, outcome="paused"))
    assert (decision.state, decision.run.epoch, put_out(decision).epoch) == (State.RUNNING, 2, 2)


@pytest.mark.parametrize("outcome", sorted(FINAL))
@pytest.mark.parametrize("want", list(Want))
def test_an_end_stays_an_end_and_what_is_out_is_taken_in(outcome: State, want: Want) -> None:
    run = replace(STARTED, outcome=outcome.value)
    decision = decided(out(), out("0002", held=True), run=run, want=want)
    assert (decision.state, decision.run, decision.take_in, decision.put_out) == (outcome, run, ("0001",), ())


@pytest.mark.parametrize("want", list(Want))
def test_what_ended_before_it_could_stop_has_succeeded_whatever_is_asked(want: Want) -> None:
    """B47: a finish and a cancel race: what lands first stands."""
    decision = decided(frontier=(), want=want)
    assert (decision.state, decision.run.outcome) == (State.SUCCEEDED, "succeeded")


def test_the_end_waits_for_a_claim_that_is_still_held() -> None:
    assert decided(out(held=True), frontier=()).state is State.RUNNING


def test_a_pause_takes_in_what_is_out_and_is_there_when_nothing_is_held() -> None:
    decision = decided(out(), want=Want.PAUSE)
    assert (decision.state, decision.run.outcome, decision.take_in) == (State.PAUSED, "paused", ("0001",))
    decision = decided(out(held=True), out("0002"), want=Want.PAUSE)
    assert (decision.state, decision.run.outcome, decision.take_in) == (State.PAUSING, None, ("0002",))


def test_a_pause_between_taps_lets_the_steps_go_on_to_the_next_tap() -> None:
    decision = decided(want=Want.PAUSE, untapped=frozenset({"0001"}))
    assert decision.state is State.PAUSING
    assert put_out(decision).attempt == 1


def test_a_pause_that_stands_stays_in_its_epoch() -> None:
    run = replace(STARTED, outcome="paused")
    decision = decided(out(), run=run, want=Want.PAUSE)
    assert (decision.state, decision.run, decision.take_in) == (State.PAUSED, run, ("0001",))


def test_a_pause_that_is_lifted_starts_a_new_epoch() -> None:
    decision = decided(run=replace(STARTED, outcome="paused", notice="read me"))
    assert (decision.state, decision.run.epoch, decision.run.outcome) == (State.RUNNING, 2, None)
    assert decision.run.notice is None
    assert put_out(decision).epoch == 2


def test_a_pause_that_is_taken_back_while_pausing_stays_in_its_epoch() -> None:
    decision = decided(out(held=True), run=replace(STARTED, want="pause"))
    assert (decision.state, decision.run.epoch) == (State.RUNNING, 1)


def test_a_cancel_waits_for_what_is_held_and_is_kept_also_when_its_marker_goes() -> None:
    """B44."""
    decision = decided(out(held=True), out("0002"), want=Want.CANCEL)
    assert (decision.state, decision.take_in) == (State.CANCELLING, ("0002",))
    assert (decision.run.want, decision.run.reason, decision.run.asked_by) == ("cancel", "because", "file:PAUSE")
    assert decided(want=Want.CANCEL).run.outcome == "cancelled"


def test_a_paused_operation_is_cancelled_at_once() -> None:
    """B41."""
    decision = decided(run=replace(STARTED, outcome="paused"), want=Want.CANCEL)
    assert (decision.state, decision.run.epoch) == (State.CANCELLED, 1)


def test_a_claim_of_a_step_that_is_not_on_the_frontier_is_taken_in() -> None:
    decision = decided(out("0001"), out("0007"), out("0008", held=True), frontier=(SECOND,))
    assert decision.take_in == ("0001", "0007")


@pytest.mark.parametrize(
    ("publishes", "delay_s"), [(1, 10), (2, 20), (3, 40), (4, 60), (5, 60), (1_000_000, 60)], ids=str
)
def test_a_message_that_nobody_follows_is_published_again_after_a_growing_delay(publishes: int, delay_s: int) -> None:
    unclaimed = out(publishes=publishes, trouble="no broker")
    assert decided(unclaimed, now=START + delay_s - 0.01).put_out == ()
    claim = put_out(decided(unclaimed, now=START + delay_s))
    assert (claim.attempt, claim.publishes, claim.published_at) == (1, publishes + 1, timestamp(START + delay_s))
    assert claim.trouble is None


def test_a_claim_that_was_never_published_is_published_at_once() -> None:
    assert put_out(decided(out(publishes=0, published_at=None))).publishes == 1


def test_a_clock_that_was_set_back_does_not_keep_a_step_for_ever() -> None:
    assert decided(out(), now=START - 60).put_out == ()
    assert put_out(decided(out(), now=START - 3601)).publishes == 2


def test_a_published_time_that_cannot_be_read_is_long_ago() -> None:
    assert put_out(decided(out(published_at="yesterday"))).publishes == 2


def test_a_dead_holder_gives_the_step_the_next_attempt_at_once() -> None:
    decision = decided(out(dead=True, retries=2))
    assert decision.state is State.INTERRUPTED
    assert decision.run.interruptions == 1
    claim = put_out(decision)
    assert (claim.attempt, claim.cause, claim.crashes, claim.retries, claim.publishes) == (2, "crash", 1, 2, 1)


def test_it_is_interrupted_until_the_step_is_claimed_again() -> None:
    again = out(attempt=2, cause="crash", crashes=1)
    assert decided(again).state is State.INTERRUPTED
    assert decided(replace(again, is_held=True)).state is State.RUNNING
    assert decided(out(dead=True), can_publish=False).state is State.INTERRUPTED


def test_a_death_is_counted_once_and_only_by_who_can_publish() -> None:
    assert decided(out(dead=True), can_publish=False).run.interruptions == 0


def test_a_step_that_took_down_too_many_workers_is_worn_out_and_nothing_else_is_done_before_it_has_failed() -> None:
    """What its failure means, for a member of a group, say, is decided anew when it is written down."""
    last = out(dead=True, crashes=2, attempt=3)
    decision = decided(last, out("0009"))
    assert decision.worn_out == (last,)
    assert (decision.put_out, decision.take_in, decision.run.outcome) == ((), (), None)
    assert decision.run.interruptions == 1
    again = decided(out(dead=True, crashes=1))
    assert (again.state, again.worn_out) == (State.INTERRUPTED, ())


def test_the_deaths_of_an_earlier_epoch_do_not_count() -> None:
    claim = put_out(decided(out(dead=True, crashes=2), run=replace(STARTED, epoch=2)))
    assert (claim.epoch, claim.attempt, claim.crashes, claim.cause) == (2, 1, 0, None)


@pytest.mark.parametrize("claim", [None, Claim(epoch=1, attempt=4, publishes=9)], ids=["unreadable", "old"])
def test_a_claim_that_is_unreadable_or_of_an_earlier_epoch_is_made_anew(claim: Claim | None) -> None:
    made = put_out(decided(Out("0001", claim, False), run=replace(STARTED, epoch=2)))
    assert (made.epoch, made.attempt, made.publishes) == (2, 1, 1)


def test_a_held_claim_is_left_alone_whatever_it_says() -> None:
    assert decided(Out("0001", None, True)).put_out == ()
    assert decided(out(held=True, epoch=9), now=START + 99_999).put_out == ()


def test_a_countdown_begins_when_the_step_is_put_out_and_the_delay_after_it() -> None:
    step = replace(FIRST, options={"countdown": 30})
    claim = put_out(decided(frontier=(step,)))
    assert claim.not_before == timestamp(START + 30)
    waiting = Out("0001", claim, False)
    assert decided(waiting, now=START + 39.9, frontier=(step,)).put_out == ()
    assert put_out(decided(waiting, now=START + 40, frontier=(step,))).not_before == claim.not_before


def test_an_eta_is_kept() -> None:
    step = replace(FIRST, options={"eta": "2027-01-15T09:00:00.000Z"})
    assert put_out(decided(frontier=(step,))).not_before == "2027-01-15T09:00:00.000Z"
    assert put_out(decided(frontier=(replace(FIRST, options={"eta": 5}),))).not_before is None


@pytest.mark.parametrize("outcome", [None, "paused"], ids=["pausing", "paused"])
def test_a_pause_leaves_a_retry_out_that_waits_and_takes_in_all_else(outcome: str | None) -> None:
    """B09: the claim is the only place that says how often a step was tried and when it is due."""
    retry = out(cause="retry", attempt=3, retries=2, not_before=timestamp(START + 600))
    decision = decided(retry, out("0007", retries=1), run=replace(STARTED, outcome=outcome), want=Want.PAUSE)
    assert (decision.state, decision.take_in, decision.put_out) == (State.PAUSED, ("0007",), ())


def test_a_retry_that_waited_over_a_pause_keeps_its_count_and_its_time() -> None:
    """B09: no attempt is used up; it is the first of a new epoch."""
    due = timestamp(START + 600)
    retry = out(cause="retry", attempt=3, publishes=4, retries=2, not_before=due)
    claim = put_out(decided(retry, run=replace(STARTED, outcome="paused"), now=START + 60))
    assert (claim.epoch, claim.attempt, claim.publishes) == (2, 1, 1)
    assert (claim.retries, claim.not_before, claim.cause) == (2, due, None)


@pytest.mark.parametrize("want", [Want.PAUSE, Want.CANCEL])
def test_an_interrupted_step_is_not_put_out_again_while_the_operation_stops(want: Want) -> None:
    """B16."""
    for waiting in (out(attempt=2, cause="interruption"), out(attempt=2, cause="retry", retries=1), out(dead=True)):
        decision = decided(waiting, out("0002", held=True), want=want, now=START + 9999)
        assert decision.put_out == ()
        assert decision.state in (State.PAUSING, State.CANCELLING)


def test_a_cancel_takes_a_waiting_retry_in() -> None:
    decision = decided(out(cause="retry", retries=1), want=Want.CANCEL)
    assert (decision.state, decision.take_in) == (State.CANCELLED, ("0001",))


def test_a_death_with_progress_counts_as_the_first_of_its_kind_and_forgets_interruptions() -> None:
    """B67: what gets on may lose its worker as often as it likes."""
    died = replace(out(dead=True, crashes=2, interruptions=9), has_progressed=True)
    claim = put_out(decided(died))
    assert (claim.crashes, claim.interruptions) == (1, 0)
    claim = put_out(decided(out(dead=True, crashes=1, interruptions=9)))
    assert (claim.crashes, claim.interruptions) == (2, 9)


def test_how_a_holder_was_lost_is_not_said_of_the_next_attempt() -> None:
    assert put_out(decided(out(dead=True, lost_to="signal 9"))).lost_to is None


@pytest.mark.parametrize("crashes", [1, 2, 5])
def test_so_many_crashes_are_too_many_as_the_recovery_says(crashes: int) -> None:
    """B66."""
    outs = (out(dead=True, crashes=crashes - 1),)
    facts = Facts(STARTED, Request(Want.RUN, None, "", ""), outs, (FIRST,))
    assert decide(facts, START, Recovery(max_crashes=crashes), can_publish=True).worn_out == outs
    assert decide(facts, START, Recovery(max_crashes=crashes + 1), can_publish=True).worn_out == ()


def test_who_only_looks_does_not_give_a_step_up() -> None:
    """It may have been started with other limits."""
    decision = decided(out(dead=True, crashes=99), can_publish=False)
    assert (decision.state, decision.worn_out) == (State.INTERRUPTED, ())


def test_a_step_that_was_interrupted_is_interrupted_until_it_is_claimed_again() -> None:
    """B60."""
    assert decided(out(attempt=2, cause="interruption")).state is State.INTERRUPTED
    assert decided(out(attempt=2, cause="interruption", held=True)).state is State.RUNNING
    assert decided(out(attempt=2, cause="retry", retries=1)).state is State.RUNNING


# ---- several steps at once


def ways(*outs: Out, paths: int = 4, **facts: Any) -> Decision:
    """Decide for a group whose members may all run."""
    return decided(*outs, frontier=plan_of(paths).steps, **facts)


def paths_of(decision: Decision) -> list[str]:
    return [one.step.path for one in decision.put_out]


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4, 9])
def test_so_many_steps_are_put_out_as_may_be_out_at_a_time_in_their_order(concurrency: int) -> None:
    assert paths_of(ways(concurrency=concurrency)) == [path.path for path in plan_of(4).steps][:concurrency]


def test_what_is_out_already_held_or_not_takes_its_place_among_them() -> None:
    """B14: never more than the limit, whoever looks and however often."""
    assert paths_of(ways(out("0002", held=True), out("0003"), concurrency=3)) == ["0001"]
    assert paths_of(ways(out("0002", held=True), out("0003"), concurrency=2)) == []
    assert paths_of(ways(out("0002", held=True), out("0003"), concurrency=1)) == []


def test_a_held_step_that_is_on_no_frontier_any_more_still_takes_a_place() -> None:
    """A member that was given up, and whose worker has not noticed: its process is still busy."""
    assert paths_of(ways(out("0009", held=True), concurrency=2)) == ["0001"]
    assert paths_of(ways(out("0009"), concurrency=2)) == ["0001", "0002"], "one that nobody holds does not"


def test_a_lost_message_is_published_again_also_where_no_further_step_may_go_out() -> None:
    lost = out("0003")
    decision = ways(lost, out("0001", held=True), concurrency=2, now=START + 10)
    assert [(one.step.path, one.claim.publishes) for one in decision.put_out] == [("0003", 2)]


def test_a_dead_member_is_put_out_again_while_the_others_run() -> None:
    decision = ways(out("0001", held=True), out("0002", dead=True), concurrency=2)
    assert (decision.state, decision.run.interruptions) == (State.RUNNING, 1)
    assert [(one.step.path, one.claim.attempt, one.claim.cause) for one in decision.put_out] == [("0002", 2, "crash")]


def test_several_deaths_at_once_are_each_counted_once_and_each_worn_out_step_is_told() -> None:
    worn = (out("0001", dead=True, crashes=2), out("0004", dead=True, crashes=2))
    decision = ways(*worn, out("0002", dead=True))
    assert (decision.worn_out, decision.run.interruptions) == (worn, 2), "the third is counted when it is decided anew"
    assert decision.put_out == (), "what the failures change is decided first"


FAILING = replace(STARTED, is_failing=True)


def test_where_a_step_has_failed_the_others_may_end_and_nothing_new_starts() -> None:
    """The operation fails when the last of them has."""
    decision = ways(out("0001", held=True), out("0002"), run=FAILING)
    assert (decision.state, decision.run.outcome, decision.put_out) == (State.RUNNING, None, ())
    assert decision.take_in == ("0002",), "a message that is on its way starts nothing"
    decision = ways(out("0002"), run=FAILING)
    assert (decision.state, decision.run.outcome, decision.take_in) == (State.FAILED, "failed", ("0002",))


def test_a_step_that_died_beside_a_failed_one_is_not_put_out_again() -> None:
    decision = ways(out("0001", held=True), out("0002", dead=True, crashes=9), run=FAILING)
    assert (decision.put_out, decision.worn_out, decision.take_in) == ((), (), ("0002",))
    assert ways(out("0002", dead=True), run=FAILING).state is State.FAILED


@pytest.mark.parametrize("want", list(Want))
def test_a_failing_operation_fails_whatever_is_asked_when_nothing_runs_any_more(want: Want) -> None:
    assert ways(run=FAILING, want=want).run.outcome == "failed"


def test_a_failing_operation_can_be_asked_to_stop_and_says_so_while_something_runs() -> None:
    runs = out("0001", held=True)
    assert ways(runs, run=FAILING, want=Want.PAUSE).state is State.PAUSING
    cancelled = ways(runs, run=FAILING, want=Want.CANCEL)
    assert (cancelled.state, cancelled.run.want) == (State.CANCELLING, "cancel")


def test_a_pause_waits_for_all_that_run_and_takes_in_the_others() -> None:
    decision = ways(out("0001", held=True), out("0002"), out("0003", held=True), want=Want.PAUSE)
    assert (decision.state, decision.take_in, decision.put_out) == (State.PAUSING, ("0002",), ())
    decision = ways(out("0002"), want=Want.PAUSE)
    assert (decision.state, decision.take_in, decision.run.outcome) == (State.PAUSED, ("0002",), "paused")


def test_a_pause_lets_only_those_go_on_that_stand_before_no_tap() -> None:
    decision = ways(out("0001"), out("0004"), want=Want.PAUSE, untapped=frozenset({"0002", "0004"}))
    assert (decision.state, decision.run.outcome) == (State.PAUSING, None)
    assert (paths_of(decision), decision.take_in) == (["0002"], ("0001",))


def test_a_pause_that_lets_some_go_on_keeps_to_the_limit_too() -> None:
    decision = ways(out("0001", held=True), want=Want.PAUSE, untapped=frozenset({"0002", "0003"}), concurrency=2)
    assert paths_of(decision) == ["0002"]


def test_a_pause_that_lets_some_go_on_keeps_the_count_of_a_retry_that_waits() -> None:
    """B09."""
    retry = out("0001", cause="retry", attempt=3, retries=2)
    decision = ways(retry, want=Want.PAUSE, untapped=frozenset({"0002"}))
    assert (paths_of(decision), decision.take_in) == (["0002"], ())


def test_an_operation_at_a_gate_waits_when_nothing_else_can_run() -> None:
    assert decided(frontier=(), is_complete=False, has_gate=True).state is State.WAITING
    assert decided(out(held=True), has_gate=True).state is State.RUNNING
    assert decided(out("0009", held=True), frontier=(), is_complete=False, has_gate=True).state is State.RUNNING
    assert decided(out(), has_gate=True).state is not State.WAITING, "another member is still to run"


@pytest.mark.parametrize(("want", "state"), [(Want.PAUSE, State.PAUSED), (Want.CANCEL, State.CANCELLED)])
def test_at_a_gate_a_request_is_followed_at_once(want: Want, state: State) -> None:
    assert decided(frontier=(), is_complete=False, has_gate=True, want=want).state is state


def test_no_frontier_is_no_end_while_something_is_left_to_do() -> None:
    """At a gate, or at members that wait for the step that adds them."""
    assert decided(frontier=(), is_complete=False).run.outcome is None


# ---- the limits


def test_the_longest_delay_is_the_limit_also_of_the_first() -> None:
    recovery = Recovery(first_delay_s=100, longest_delay_s=30)
    assert [recovery.delay_s(publishes) for publishes in (1, 2, 10**9)] == [30, 30, 30]
    assert [Recovery().delay_s(publishes) for publishes in (1, 2, 3, 4)] == [10, 20, 30, 30]
    assert Recovery(first_delay_s=0.0).delay_s(5) == 0.0


def test_the_environment_sets_the_limits_and_the_rest_is_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Recovery.of_environment() == Recovery()
    for name, value in (
        ("TAPFS_FIRST_DELAY_S", "0.5"),
        ("TAPFS_LONGEST_DELAY_S", "7"),
        ("TAPFS_MAX_CRASHES", "1"),
        ("TAPFS_SILENT_AFTER_S", "15"),
    ):
        monkeypatch.setenv(name, value)
    assert Recovery.of_environment() == Recovery(
        first_delay_s=0.5, longest_delay_s=7.0, max_crashes=1, max_interruptions=10, silent_after_s=15.0
    )
    assert type(Recovery.of_environment().max_crashes) is int


@pytest.mark.parametrize("variable", ["TAPFS_MAX_CRASHES", "TAPFS_MAX_INTERRUPTIONS", "TAPFS_LONGEST_DELAY_S"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "none")
    with pytest.raises(TapfsError, match=f"{variable} is 'none'"):
        Recovery.of_environment()


def test_deciding_changes_nothing_of_what_it_is_given() -> None:
    outs = (out(dead=True), out("0009"))
    assert decided(*outs) == decided(*outs)
    assert outs == (out(dead=True), out("0009"))
