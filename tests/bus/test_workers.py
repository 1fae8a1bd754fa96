"""`workers/<name>/`: the folders of living workers, and what is asked in them."""

import fcntl
import json
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from support.bench import START, Bench
from support.mortal import deaths
from tapfs.bus import workers
from tapfs.bus.clock import timestamp
from tapfs.bus.layout import ControlLayout
from tapfs.bus.locks import is_held
from tapfs.bus.records import WorkerCard
from tapfs.bus.workers import WorkerFolder, clear_dead


@pytest.fixture
def control(bench: Bench) -> ControlLayout:
    bench.control.prepare()
    return bench.control.layout


def enter(control: ControlLayout, name: str = "celery@here") -> WorkerFolder:
    return WorkerFolder.enter(control, name, START)


def names(control: ControlLayout) -> list[str]:
    return sorted(path.name for path in control.workers.iterdir())


def dead(control: ControlLayout, name: str = "celery@here") -> Path:
    """The folder of a worker that died without a word: a child that is gone."""
    child = os.fork()
    if child == 0:
        try:
            enter(control, name)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return control.workers / name


def test_a_worker_has_a_folder_with_a_card_while_it_lives_and_none_after(control: ControlLayout) -> None:
    folder = enter(control)
    card = WorkerCard.read(folder.path / "worker.json")
    assert folder.path == control.workers / "celery@here"
    assert (card.name, card.host, card.pid) == ("celery@here", socket.gethostname(), os.getpid())
    assert card.started_at == timestamp(START)
    assert is_held(str(folder.path / "worker.json"))
    folder.leave()
    assert names(control) == []


def test_of_two_living_workers_with_one_name_each_has_a_folder_of_its_own(control: ControlLayout) -> None:
    folders = [enter(control) for _ in range(3)]
    assert [folder.name for folder in folders] == ["celery@here", "celery@here.2", "celery@here.3"]
    assert [WorkerCard.read(folder.path / "worker.json").name for folder in folders] == names(control)
    folders[1].leave()
    assert enter(control).name == "celery@here.2"
    assert is_held(str(folders[0].path / "worker.json"))


def test_the_folder_of_a_dead_worker_does_not_keep_its_name(control: ControlLayout) -> None:
    """B73: the lock of a dead process blocks nobody."""
    path = dead(control)
    (path / "STOPPING").write_text("the worker got SIGTERM")
    assert not is_held(str(path / "worker.json"))
    folder = enter(control)
    assert folder.path == path
    assert folder.why_leave() is None, "what the dead one said of itself is not said of its follower"
    assert json.loads((path / "worker.json").read_text())["pid"] == os.getpid()


def test_of_many_workers_that_enter_at_once_none_shares_a_folder(control: ControlLayout) -> None:
    read, write = os.pipe()
    release, hold = os.pipe()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            try:
                os.close(hold)
                os.write(write, f"{enter(control).name}\n".encode())
                os.read(release, 1)  # until the parent has seen them all
            finally:
                os._exit(0)
        children.append(child)
    os.close(write)
    found = b""
    while found.count(b"\n") < 6 and (block := os.read(read, 4096)):
        found += block
    os.close(hold)
    for child in children:
        os.waitpid(child, 0)
    for descriptor in (read, release):
        os.close(descriptor)
    taken = found.decode().split()
    assert (len(taken), len(set(taken))) == (6, 6)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("first@host.example.org", "first@host.example.org"),
        ("../../etc", "_.._etc"),
        (".hidden", "hidden"),
        ("..", "worker"),
        ("", "worker"),
        ("a b\nc/d", "a_b_c_d"),
        ("ä" * 300, "_"),
        ("w" * 300, "w" * 100),
    ],
)
def test_whatever_a_worker_is_called_its_folder_is_one_below_workers(
    control: ControlLayout, name: str, folder: str
) -> None:
    entered = enter(control, name)
    assert entered.path.parent == control.workers
    assert names(control) == [folder]


def test_a_control_directory_that_is_gone_is_not_made_again(bench: Bench) -> None:
    with pytest.raises(FileNotFoundError):
        enter(bench.control.layout)
    assert not bench.path.exists()


# ---- what is asked


def test_a_drain_is_a_level_with_its_text_for_a_reason(control: ControlLayout) -> None:
    folder = enter(control)
    assert (folder.has_drain(), folder.why_leave()) == (False, None)
    (folder.path / "DRAIN").touch()
    assert (folder.has_drain(), folder.why_leave()) == (True, "workers/celery@here/DRAIN")
    (folder.path / "DRAIN").write_text("a new\nkernel\n")
    assert folder.why_leave() == "workers/celery@here/DRAIN: a new kernel"
    (folder.path / "DRAIN").unlink()
    assert (folder.has_drain(), folder.why_leave()) == (False, None)


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link"])
def test_a_drain_of_any_kind_is_one(control: ControlLayout, kind: str) -> None:
    folder = enter(control)
    drain = folder.path / "DRAIN"
    {"folder": drain.mkdir, "fifo": lambda: os.mkfifo(drain), "dangling link": lambda: drain.symlink_to("/none")}[
        kind
    ]()
    assert folder.has_drain()
    assert folder.why_leave() == "workers/celery@here/DRAIN"


def test_a_worker_about_to_end_says_so_and_that_is_no_drain(control: ControlLayout) -> None:
    folder = enter(control)
    folder.stop("the worker got SIGTERM")
    assert folder.why_leave() == "workers/celery@here/STOPPING: the worker got SIGTERM"
    assert not folder.has_drain()
    folder.stop("the worker is shutting down")
    assert folder.why_leave() == "workers/celery@here/STOPPING: the worker got SIGTERM", "the first reason stays"
    folder.leave()
    assert names(control) == []


def test_where_it_cannot_be_said_that_a_worker_stops_nothing_is_raised(control: ControlLayout) -> None:
    """It is said in a signal handler."""
    folder = enter(control)
    (folder.path / "worker.json").unlink()
    folder.path.rmdir()
    folder.stop("the worker got SIGTERM")
    assert folder.why_leave() is None
    folder.leave()


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_a_worker_that_says_it_stops_hangs_on_nothing_and_writes_through_no_link(
    control: ControlLayout, tmp_path: Path, kind: str
) -> None:
    folder = enter(control)
    (tmp_path / "target").write_text("mine")
    stopping = folder.path / "STOPPING"
    os.mkfifo(stopping) if kind == "fifo" else stopping.symlink_to(tmp_path / "target")
    folder.stop("the worker got SIGTERM")
    assert (tmp_path / "target").read_text() == "mine"
    assert folder.why_leave() == "workers/celery@here/STOPPING"


def test_a_process_of_a_dead_worker_that_lives_on_does_not_keep_its_name(control: ControlLayout) -> None:
    """B73: the pool's processes are forks of the one who has the lock."""
    read, write = os.pipe()
    release, hold = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hold)
            enter(control)
            if os.fork() == 0:
                os.write(write, b".")
                os.read(release, 1)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    try:
        assert os.read(read, 1) == b"."
        assert enter(control).name == "celery@here"
    finally:
        for descriptor in (hold, read, write, release):
            os.close(descriptor)


def test_a_drain_outlives_its_worker_and_holds_for_the_next_of_that_name(control: ControlLayout) -> None:
    """Markers are levels: a worker that is started again by its service manager is still to drain."""
    folder = enter(control)
    (folder.path / "DRAIN").write_text("for good")
    folder.leave()
    assert [path.name for path in (control.workers / "celery@here").iterdir()] == ["DRAIN"]
    again = enter(control)
    assert again.why_leave() == "workers/celery@here/DRAIN: for good"


# ---- those that died


def test_folders_of_dead_workers_are_cleared_and_those_of_living_ones_are_not(control: ControlLayout) -> None:
    """B73."""
    living = enter(control, "living")
    dead(control, "dead")
    (dead(control, "stopped") / "STOPPING").touch()
    (dead(control, "draining") / "DRAIN").touch()
    (control.workers / "empty").mkdir()
    (control.workers / "README").touch()
    clear_dead(control)
    assert names(control) == ["README", "draining", "empty", "living"]
    assert [path.name for path in (control.workers / "draining").iterdir()] == ["DRAIN"]
    assert is_held(str(living.path / "worker.json"))
    clear_dead(control)
    assert names(control) == ["README", "draining", "empty", "living"]


def test_what_is_not_tapfss_own_is_left_in_a_dead_workers_folder(control: ControlLayout) -> None:
    path = dead(control)
    (path / "notes.txt").write_text("mine")
    clear_dead(control)
    assert [one.name for one in path.iterdir()] == ["notes.txt"]


def test_clearing_where_there_were_never_workers_does_nothing(control: ControlLayout) -> None:
    clear_dead(control)
    assert not control.workers.exists()


def test_a_card_that_is_no_file_keeps_no_worker_from_entering(control: ControlLayout) -> None:
    (control.workers / "celery@here" / "worker.json").mkdir(parents=True)
    assert enter(control).name == "celery@here.2"
    clear_dead(control)
    assert names(control) == ["celery@here", "celery@here.2"]


def test_who_only_looks_whether_a_worker_lives_takes_its_name_from_nobody(
    control: ControlLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes the card's lock for an instant."""
    path = dead(control)
    look = os.open(path / "worker.json", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    waits: list[float] = []

    class Clock:
        @staticmethod
        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                fcntl.flock(look, fcntl.LOCK_UN)

    monkeypatch.setattr(workers, "time", Clock)
    assert enter(control).name == "celery@here"
    assert len(waits) == 2
    fcntl.flock(look, fcntl.LOCK_SH)
    assert enter(control).name == "celery@here.2", "one who looks for ever keeps no worker from entering"
    os.close(look)


def test_workers_that_come_and_go_while_the_dead_are_cleared_each_have_their_folder(control: ControlLayout) -> None:
    is_over = threading.Event()

    def clear() -> None:
        while not is_over.is_set():
            clear_dead(control)

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for _ in range(100):
            folder = enter(control)
            assert is_held(str(folder.path / "worker.json"))
            folder.stop("over")
            assert folder.why_leave() is not None
            folder.leave()
    finally:
        is_over.set()
        thread.join()
    assert names(control) == []


def test_death_at_any_write_of_entering_and_leaving_keeps_nobody_out(control: ControlLayout) -> None:
    """B73: the next of that name has its folder, and nothing is left of the dead one."""
    for subject in deaths(lambda: None, lambda _: enter(control).leave()):
        assert subject is None
        folder = enter(control)
        assert folder.name == "celery@here"
        assert folder.why_leave() is None
        assert is_held(str(folder.path / "worker.json"))
        folder.leave()
        clear_dead(control)
        left = [path.name for path in control.workers.rglob("*") if not path.name.startswith(".tmp-")]
        assert left in ([], ["celery@here"])


def test_a_folder_that_was_removed_comes_back_while_its_worker_lives(control: ControlLayout) -> None:
    """`rm -r control/workers`: it can be drained again, and is no dead one's."""
    folder = enter(control)
    folder.keep()
    assert names(control) == ["celery@here"]
    shutil.rmtree(control.workers)
    folder.keep()
    assert names(control) == ["celery@here"]
    clear_dead(control)
    assert names(control) == ["celery@here"]
    (folder.path / "DRAIN").touch()
    assert folder.has_drain()
    (folder.path / "DRAIN").unlink()
    folder.leave()
    assert names(control) == []
