"""Several workers on one control directory."""

from __future__ import annotations

import json

from support import wait_for


def test_new_work_does_not_wait_behind_a_busy_worker_while_another_is_idle(any_site, people) -> None:
    """A busy worker reserves no message: what comes next starts at once, long before anything is published again."""
    for name in ("one", "two"):
        any_site.worker("--concurrency", "1", name=name)
    path = people(60_000)
    busy = any_site.start("tally", path=path, by="company", of="gender", pace=8_000)
    wait_for(lambda: (busy.layout.steps / "0002-count.checkpoint.json").exists(), 20)
    for _ in range(4):
        quick = any_site.start("countdown", steps=2, seconds=0)
        any_site.wait(quick, "succeeded", 6)
    assert not busy.ready()
    busy.cancel()
    any_site.wait(busy, "cancelled")


def test_five_workers_on_one_operation_run_each_step_once(site) -> None:
    """B26: whoever comes second is dropped."""
    for number in range(5):
        site.worker("--concurrency", "1", name=f"worker{number}")
    operations = [site.start("countdown", steps=20, seconds=0) for _ in range(5)]
    for operation in operations:
        site.wait(operation, "succeeded", 60)
        commits = sorted(operation.layout.steps.iterdir())
        assert len(commits) == 20
        assert [json.loads(path.read_text())["result"] for path in commits] == list(range(19, -1, -1))
