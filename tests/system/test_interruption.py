"""Workers that leave: SIGTERM, a second one, soft shutdown, DRAIN, a maximum running time. Nothing is lost by any."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from support import Process, wait_for
from tapfs.bus.operation import Operation
from tapfs.bus.records import Checkpoint

TALLY = {"by": "company", "of": "gender"}


def count_of(operation: Operation) -> float:
    """How many rows the running step has saved."""
    path = operation.layout.steps / "0002-count.checkpoint.json"
    try:
        return Checkpoint.read(path, 10**8).done or 0
    except FileNotFoundError:
        return 0


def wait_for_rows(operation: Operation, more_than: float = 0) -> None:
    wait_for(lambda: count_of(operation) > more_than, 30, "no rows are counted")


def holder(operation: Operation) -> dict[str, Any]:
    claims = [json.loads(path.read_text()) for path in operation.layout.claims.iterdir()]
    return next((claim["holder"] or {} for claim in claims), {})


def folders(site: Any) -> list[str]:
    return sorted(path.name for path in (site.control / "workers").iterdir())


def start_slow(site: Any, people: Any, rows: int = 24_000, pace: int = 8_000) -> tuple[Operation, Path]:
    path = people(rows)
    operation = site.start("tally", path=path, pace=pace, **TALLY)
    wait_for_rows(operation)
    return operation, path


def assert_goes_on_exactly(site: Any, operation: Operation, path: Path, expected: Any) -> None:
    site.wait(operation, "succeeded", 60)
    assert operation.result == expected(path)


def test_sigterm_saves_the_place_and_another_worker_goes_on_from_there(any_site, people, expected) -> None:
    """B59: progress saved, one message, one interruption more; at the end nothing is left."""
    first = any_site.worker("--concurrency", "1", name="first")
    operation, path = start_slow(any_site, people)
    first.terminate()
    assert first.wait(20) == 0
    saved = count_of(operation)
    assert saved > 0
    assert operation.state == "interrupted"
    assert not operation.ready()
    assert list(operation.layout.claims.iterdir()) != []
    any_site.worker("--concurrency", "1", name="second")
    assert_goes_on_exactly(any_site, operation, path, expected)
    run = json.loads(operation.layout.run.read_text())
    assert run["interruptions"] == 1
    (interrupted,) = any_site.journal(operation, "interrupted")
    assert "SIGTERM" in interrupted["reason"]
    commit = json.loads((operation.layout.steps / "0002-count.json").read_text())
    assert commit["attempt"] == 2
    assert commit["worker"].startswith("worker:second@")
    assert list(operation.layout.claims.iterdir()) == []
    assert any_site.journal(operation, "dropped") == []


def test_an_interrupted_operation_goes_on_by_itself_where_a_worker_is_idle(site, people, expected) -> None:
    """B60: shown as interrupted, neither a failure nor a retry."""
    for name in ("one", "two"):
        site.worker("--concurrency", "1", name=name)
    operation, path = start_slow(site, people)
    wait_for(lambda: holder(operation), 10)
    name = holder(operation)["worker"]
    site.workers[name.partition("@")[0]].terminate()
    assert_goes_on_exactly(site, operation, path, expected)
    states = [entry["to"] for entry in site.journal(operation, "state")]
    assert states == ["running", "interrupted", "running", "succeeded"]
    assert not operation.layout.error.exists()


@pytest.mark.parametrize("signals", [["SIGTERM", "SIGTERM"], ["SIGQUIT"], ["SIGTERM", "SIGQUIT"]], ids="-".join)
def test_a_second_sigterm_and_sigquit_leave_at_once_with_nothing_half_written(
    site, people, expected, signals: list[str]
) -> None:
    """B70: also in a step that never comes to a tap."""
    worker = site.worker("--concurrency", "1", name="first")
    operation = site.start("countdown", steps=1, seconds=0)
    site.wait(operation, "succeeded")
    operation, path = start_slow(site, people, rows=10_000, pace=3_000)
    for name in signals:
        worker.send(signal.Signals[name])
    assert worker.wait(15) is not None
    assert site.tapfs("verify").returncode == 0
    site.worker("--concurrency", "2", name="second")
    assert_goes_on_exactly(site, operation, path, expected)


def test_steps_stop_at_their_taps_while_celery_shuts_down_softly(site, people, expected, tmp_path: Path) -> None:
    """B71: SIGQUIT with `worker_soft_shutdown_timeout`: what taps is put back at once, what ends in time has ended."""
    (tmp_path / "soft.py").write_text(
        "from tapfs.flow.app import app\napp.conf.worker_soft_shutdown_timeout = 8.0\n__all__ = ['app']\n"
    )
    worker = site.worker_of("soft", "--concurrency", "2", name="soft", folder=tmp_path)
    operation, path = start_slow(site, people)
    short = site.start("countdown", steps=1, seconds=2)
    wait_for(lambda: short.state == "running", 20)
    worker.send(signal.SIGQUIT)
    site.wait(operation, "interrupted", 6)
    assert "shutting down" in site.journal(operation, "interrupted")[0]["reason"]
    worker.wait(30)
    site.worker("--concurrency", "2", name="second")
    assert_goes_on_exactly(site, operation, path, expected)
    site.wait(short, "succeeded")


def test_a_drained_worker_gives_its_steps_away_and_takes_none_until_the_marker_is_gone(
    any_site, people, expected
) -> None:
    """`touch control/workers/<name>/DRAIN`: a level, like every marker."""
    any_site.worker("--concurrency", "1", name="one")
    operation, path = start_slow(any_site, people)
    (name,) = folders(any_site)
    assert holder(operation)["worker"] == name
    drain = any_site.control / "workers" / name / "DRAIN"
    drain.write_text("new disks")
    any_site.wait(operation, "interrupted")
    assert "new disks" in any_site.journal(operation, "interrupted")[0]["reason"]
    any_site.worker("--concurrency", "1", name="two")
    assert_goes_on_exactly(any_site, operation, path, expected)
    others = [any_site.start("countdown", steps=2, seconds=0) for _ in range(5)]
    for other in others:
        any_site.wait(other, "succeeded")
        workers = {json.loads(commit.read_text())["worker"] for commit in other.layout.steps.iterdir()}
        assert all("two@" in worker for worker in workers), workers
    assert folders(any_site) == [name, name.replace("one", "two")]
    drain.unlink()
    wait_for(lambda: "working again" in any_site.workers["one"].output, 10)


def test_a_worker_that_ends_takes_its_folder_away_and_one_that_was_killed_is_cleared_up(site) -> None:
    """A DRAIN stays: it is a person's, and still asked of a worker that comes back."""
    ended, killed = site.worker(name="ended"), site.worker(name="killed")
    assert len(folders(site)) == 2
    ended.terminate()
    ended.wait(20)
    assert len(folders(site)) == 1
    killed.kill(group=True)
    site.worker(name="next")
    wait_for(lambda: len(folders(site)) == 1, 20, lambda: str(folders(site)))
    assert "next" in folders(site)[0]


def test_two_workers_of_one_name_have_folders_of_their_own(site) -> None:
    site.worker("--concurrency", "1", name="same")
    site.worker("--concurrency", "1", name="same")
    first, second = folders(site)
    assert second == f"{first}.2"


def test_a_step_that_ran_for_its_maximum_makes_room_for_others_and_goes_on(site, people, expected) -> None:
    """B62: the reason is in the journal; with one worker, others have their turn in between."""
    site.variables["TAPFS_MAX_RUNNING_S"] = "1.5"
    site.worker("--concurrency", "1")
    operation, path = start_slow(site, people)
    quick = site.start("countdown", steps=3, seconds=0)
    site.wait(quick, "succeeded", 20)
    assert not operation.ready()
    assert_goes_on_exactly(site, operation, path, expected)
    reasons = {entry["reason"] for entry in site.journal(operation, "interrupted")}
    assert reasons == {"it ran for its maximum of 1.5 s"}
    assert site.journal(operation, "dropped") == []


def test_the_folder_of_a_worker_says_which_process_it_is(site) -> None:
    worker: Process = site.worker(name="told")
    (name,) = folders(site)
    card = json.loads((site.control / "workers" / name / "worker.json").read_text())
    assert (card["name"], card["pid"]) == (name, worker.pid)


def test_a_shutdown_by_celerys_remote_control_is_an_interruption_too(
    tmp_path, processes, redis_url, make_site, people
) -> None:
    """Celery sends no signal of it."""
    site = make_site(tmp_path, processes, redis_url)
    worker = site.worker("--concurrency", "1")
    operation, _ = start_slow(site, people)
    site.bus.app.control.shutdown()
    worker.wait(30)
    site.wait(operation, "interrupted", 5)
    assert "shutting down" in site.journal(operation, "interrupted")[0]["reason"]
