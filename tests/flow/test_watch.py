"""File events as hints: whatever way a person asks in is seen, and what tapfs itself writes is not."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import wait_for
from support.flows import Numbers, Post, touch
from tapfs import Bus, Operation, State, tap, tappable
from tapfs.bus import claims, files
from tapfs.bus.plan import Step
from tapfs.bus.records import Claim, Holder
from tapfs.flow import watch as watch_module
from tapfs.flow.watch import EVERYTHING, Watch

#: watchdog says so of a folder that is made while it goes through its parent.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

#: Seconds in which a hint must have come; on a busy machine it takes longer than the usual millisecond.
SOON_S = 10.0
#: Seconds after which no hint is coming any more.
QUIET_S = 0.3


@pytest.fixture
def operation(app: Any, bus: Bus) -> Operation:
    @app.task(name="work")
    def work() -> None:
        pass

    return tappable(work.s(), bus=bus).delay()


@pytest.fixture
def watch(bus: Bus, operation: Operation) -> Iterator[Watch]:
    watch = Watch(bus.control.path)
    watch.start()
    yield watch
    watch.stop()


def names(watch: Watch, timeout_s: float = QUIET_S) -> set[str]:
    """What is hinted at until nothing comes any more."""
    found: set[str] = set()
    while fresh := watch.wait(timeout_s):
        found |= fresh
    return found


def shell(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True)


def edited(operation: Operation) -> str:
    """What stands in `state.json` with another want."""
    return (operation.path / "state.json").read_text().replace('"want": "run"', '"want": "pause"')


def as_vim(operation: Operation) -> None:
    """As vim with `backupcopy=no`: a swap file, the old file moved away, a new one in its place."""
    path, swap = operation.path / "state.json", operation.path / ".state.json.swp"
    swap.write_text("swap")
    text = edited(operation)
    path.rename(operation.path / "state.json~")
    path.write_text(text)
    (operation.path / "state.json~").unlink()
    swap.unlink()


def as_nano(operation: Operation) -> None:
    text = edited(operation)
    (operation.path / "state.json").write_text(text)


def as_rsync(operation: Operation) -> None:
    """As rsync and scp's newer kin: written beside it under another name, and moved over it."""
    beside = operation.path / ".state.json.Xy12Zq"
    beside.write_text(edited(operation))
    beside.rename(operation.path / "state.json")


def by_mv_from_outside(operation: Operation) -> None:
    outside = operation.path.parents[2] / "note"
    outside.write_text("lunch")
    shell("mv", outside, operation.path / "PAUSE")


def by_cp(operation: Operation) -> None:
    outside = operation.path.parents[2] / "state"
    outside.write_text(edited(operation))
    shell("cp", outside, operation.path / "state.json")


def by_opening_and_writing_later(operation: Operation) -> None:
    with open(operation.path / "PAUSE", "w") as stream:
        stream.write("a long reason ")
        stream.flush()
        stream.write("in two parts")


WAYS: dict[str, Callable[[Operation], Any]] = {
    "touch": lambda operation: shell("touch", operation.path / "PAUSE"),
    "touch CANCEL": lambda operation: (operation.path / "CANCEL").touch(),
    "echo": lambda operation: touch(operation.path / "PAUSE", "lunch\n"),
    "open and write": by_opening_and_writing_later,
    "mkdir": lambda operation: (operation.path / "PAUSE").mkdir(),
    "ln -s": lambda operation: (operation.path / "PAUSE").symlink_to("/nowhere"),
    "mkfifo": lambda operation: os.mkfifo(operation.path / "PAUSE"),
    "mv from outside": by_mv_from_outside,
    "cp": by_cp,
    "sed -i": lambda operation: shell("sed", "-i", 's/"want": "run"/"want": "pause"/', operation.path / "state.json"),
    "vim": as_vim,
    "nano": as_nano,
    "rsync": as_rsync,
    "rm": lambda operation: shell("rm", operation.path / "state.json"),
    "truncate": lambda operation: os.truncate(operation.path / "state.json", 0),
    "misspelt": lambda operation: (operation.path / "pause").touch(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_asking_gives_a_hint(way: str, watch: Watch, operation: Operation) -> None:
    """X01"""
    assert names(watch) == set()
    WAYS[way](operation)
    assert operation.id in watch.wait(SOON_S)


@pytest.mark.parametrize(
    "way",
    {
        "touch again": lambda path: shell("touch", path),
        "rm": lambda path: path.unlink(),
        "mv away": lambda path: shell("mv", path, path.parents[3] / "away"),
        "mv within": lambda path: path.rename(path.with_name("NO-PAUSE")),
        "append": lambda path: shell("sh", "-c", f"echo more >> '{path}'"),
    }.items(),
    ids=lambda way: way[0],
)
def test_every_way_of_taking_it_back_gives_a_hint(way: Any, bus: Bus, operation: Operation) -> None:
    """X01, X03"""
    touch(operation.path / "PAUSE", "lunch")
    watch = Watch(bus.control.path)
    watch.start()
    try:
        assert names(watch) == set()
        way[1](operation.path / "PAUSE")
        assert operation.id in watch.wait(SOON_S)
    finally:
        watch.stop()


def test_the_marker_of_the_bus_concerns_everything(watch: Watch, bus: Bus) -> None:
    (bus.control.path / "PAUSE").touch()
    assert watch.wait(SOON_S) == {EVERYTHING}
    names(watch)
    (bus.control.path / "PAUSE").unlink()
    assert watch.wait(SOON_S) == {EVERYTHING}


def test_other_files_of_the_control_directory_give_no_hint(watch: Watch, bus: Bus, operation: Operation) -> None:
    for path in ("format", "README", "pause", "active/20260101-000000-x-abcdef", "broker-like"):
        (bus.control.path / path).write_text("x")
    assert names(watch) == set()


def test_own_writes_of_run_json_journal_steps_and_claims_give_no_hint(watch: Watch, operation: Operation) -> None:
    layout = operation.layout
    step = Step("0001", "work", "work")
    claim = Claim(epoch=1, attempt=1)
    names(watch)
    files.replace(layout.run, b"{}")
    files.replace(layout.result, b"1")
    files.replace(layout.error, b"{}")
    operation.note("hint", message="x")
    files.replace(layout.checkpoint(step), b"{}")
    files.create(layout.commit(step), b"{}")
    claims.put_out(layout, "0001", claim)
    held = claims.take(layout, step, claim, Holder("worker", "host", os.getpid(), "now"))
    claims.drop(layout, "0001")
    held.release()
    with operation.locked():
        pass
    assert names(watch) == set()


def test_reading_gives_no_hint(watch: Watch, operation: Operation) -> None:
    names(watch)
    for path in operation.path.rglob("*"):
        if path.is_file():
            path.read_bytes()
    operation.view()
    operation.plan()
    assert names(watch) == set()


def test_checkpoints_of_a_running_step_give_no_hint(
    app: Any, bus: Bus, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = []
    monkeypatch.setattr("tapfs.flow.place.CHECKPOINT_INTERVAL_S", 0.0)

    @app.task(name="fold")
    def fold() -> list[str]:
        time.sleep(0.2)
        bus.reconcile(operation)  # takes away what the last version of `state.json` was kept in
        watch = Watch(bus.control.path)
        watch.start()
        watches.append(watch)
        for _ in tap.fold(Numbers(10, on_chunk=lambda _: time.sleep(0.06)), {}):
            pass
        assert (operation.path / "steps" / "0001-fold.checkpoint.json").exists()
        return sorted(names(watch))

    operation = tappable(fold.s(), bus=bus).delay()
    post.deliver_all()
    watches[0].stop()
    assert operation.result == []


def test_a_claim_let_go_by_a_process_that_died_gives_a_hint(watch: Watch, operation: Operation) -> None:
    claim = Claim(epoch=1, attempt=1)
    held = claims.take(
        operation.layout, Step("0001", "work", "work"), claim, Holder("worker", "host", os.getpid(), "now")
    )
    names(watch)
    held.release()  # its name is still there: its end would have removed it
    assert watch.wait(SOON_S) == {operation.id}


def test_an_operation_that_is_made_while_watching_is_watched(app: Any, bus: Bus, watch: Watch) -> None:
    made = [tappable(app.signature("work"), bus=bus).delay() for _ in range(10)]
    hinted = names(watch)
    assert hinted <= {operation.id for operation in made}, "a start concerns itself alone"
    for operation in made:
        (operation.path / "PAUSE").touch()
    seen: set[str] = set()
    wait_for(lambda: seen.update(watch.wait(0.1)) or len(seen) == 10, message=lambda: f"only {len(seen)} of 10")


def test_an_operation_that_is_removed_gives_a_hint_and_the_others_are_watched_on(
    app: Any, bus: Bus, watch: Watch, operation: Operation
) -> None:
    other = tappable(app.signature("work"), bus=bus).delay()
    names(watch)
    shutil.rmtree(operation.path)
    assert operation.id in names(watch, 1.0)
    (other.path / "PAUSE").touch()
    assert watch.wait(SOON_S) == {other.id}


def test_waiting_ends_when_time_is_up_or_it_is_woken(watch: Watch) -> None:
    names(watch)
    began = time.monotonic()
    assert watch.wait(0.05) == set()
    assert time.monotonic() - began < SOON_S


def test_a_folder_that_cannot_be_watched_is_said_once_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(tmp_path / "not-there")
    watch.start()
    assert "it is scanned instead" in caplog.text
    assert watch.wait(0.0) == set()
    watch.keep_up()
    watch.stop()


def test_a_watch_whose_thread_died_is_started_again(
    watch: Watch, operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    watch.keep_up()
    assert "has died" not in caplog.text
    observer = watch._observer
    assert observer is not None
    observer.stop()
    observer.join()
    watch.keep_up()
    assert "has died; it is started again" in caplog.text
    (operation.path / "PAUSE").touch()
    assert operation.id in watch.wait(SOON_S)


def test_names_that_are_no_text_do_no_harm(watch: Watch, operation: Operation) -> None:
    names(watch)
    with open(os.path.join(os.fsencode(operation.path), b"pause-\xff"), "w"):
        pass
    assert operation.id in watch.wait(SOON_S)
    assert watch_module.logger is not None


def test_a_whole_operation_needs_few_hints(app: Any, bus: Bus, post: Post, watch: Watch) -> None:
    """Own writes of `state.json` come back as hints; they are few, for it is written seldom."""

    @app.task(name="one")
    def one() -> int:
        return 1

    post.deliver_all()  # that of the fixture
    names(watch)
    operation = tappable(one.si() | one.si() | one.si() | one.si(), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert names(watch) <= {operation.id}
    assert json.loads((operation.path / "state.json").read_text())["state"] == "succeeded"
