"""Taking turns: the operation's lock, the supervisor's, and the lock under a claim."""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from support import Processes, wait_for
from support.bench import Bench
from tapfs.bus.locks import ClaimLock, FolderLock, SingleHolder, is_held
from tapfs.errors import ControlUnusable, OperationUnknown, TapfsError

HOLD = """
import sys, time
from pathlib import Path
from tapfs.bus.locks import FolderLock, SingleHolder

kind, path = sys.argv[1], Path(sys.argv[2])
if kind == "folder":
    with FolderLock(path, "operation.json").held():
        print("held", flush=True)
        time.sleep(600)
holder = SingleHolder(path)
assert holder.take()
print("held", flush=True)
time.sleep(600)
"""

#: A parent that takes a lock and has a child by fork that outlives it.
FORK = """
import os, sys, time
from tapfs.bus.locks import ClaimLock, SingleHolder
from pathlib import Path

kind, path = sys.argv[1:]
if kind == "claim":
    lock = ClaimLock.place(path, b"{}")
else:
    lock = SingleHolder(Path(path))
    assert lock.take()
if os.fork() == 0:
    print("child", os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "operation"
    made.mkdir()
    (made / "operation.json").touch()
    return made


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def lock_of(folder: Path, timeout_s: float = 5.0) -> FolderLock:
    return FolderLock(folder, "operation.json", timeout_s)


def is_free(folder: Path) -> bool:
    try:
        with lock_of(folder, 0.05).held():
            return True
    except TapfsError:
        return False


def no_flock(*_: object) -> NoReturn:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_one_at_a_time_holds_a_folder(folder: Path) -> None:
    with lock_of(folder).held():
        assert not is_free(folder)
    assert is_free(folder)


def test_threads_that_share_one_lock_take_turns(folder: Path) -> None:
    lock = lock_of(folder)
    inside: list[int] = []
    most: list[int] = []
    start = threading.Barrier(6)

    def work(number: int) -> None:
        start.wait()
        for _ in range(20):
            with lock.held():
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 120
    assert max(most) == 1


def test_an_error_inside_gives_the_lock_back(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_of(folder).held():
        _ = 1 / 0
    assert is_free(folder)


def test_who_waits_too_long_is_told_and_nothing_is_left_locked(folder: Path) -> None:
    with lock_of(folder).held(), pytest.raises(TapfsError, match=r"held '.*/lock' for 0\.05 s"):
        lock_of(folder, 0.05)._acquire()
    assert is_free(folder)


def test_the_death_of_a_holder_frees_the_folder_at_once(folder: Path, processes: Processes) -> None:
    """B73."""
    holder = processes.python("-c", HOLD, "folder", folder)
    holder.wait_for_output("held")
    assert not is_free(folder)
    holder.kill()
    assert is_free(folder)


@pytest.mark.parametrize("way", ["deleted", "renamed over"])
def test_a_lock_file_that_was_deleted_or_renamed_over_gives_no_two_holders_in_turn(folder: Path, way: str) -> None:
    """Who waits for the old file finds, once in, that it is not the lock any more, and goes for the new one."""
    order: list[str] = []
    with ExitStack() as first:
        first.enter_context(lock_of(folder).held())
        waiting = threading.Thread(target=lambda: _hold_and_note(folder, order))
        waiting.start()
        if way == "deleted":
            (folder / "lock").unlink()
        else:
            (folder / "other").touch()
            (folder / "other").rename(folder / "lock")
        # From here the new file is another lock: the waiter may be in. What it must not do is hold the old one.
        waiting.join()
        assert order == ["in", "out"]
        with lock_of(folder).held():
            assert not is_free(folder)
    assert is_free(folder)


def _hold_and_note(folder: Path, order: list[str]) -> None:
    with lock_of(folder).held():
        order.append("in")
        assert not is_free(folder), "it holds the file that the name stands for"
        order.append("out")


def test_a_lock_object_goes_over_to_the_new_file(folder: Path) -> None:
    lock = lock_of(folder)
    with lock.held():
        pass
    (folder / "lock").unlink()
    with lock.held():
        assert not is_free(folder)


def test_locking_a_removed_operation_does_not_bring_its_folder_back(folder: Path) -> None:
    lock = lock_of(folder)
    with lock.held():
        pass
    (folder / "operation.json").unlink()
    (folder / "lock").unlink()
    folder.rmdir()
    with pytest.raises(OperationUnknown, match="is not there any more"), lock.held():
        pass
    assert not folder.exists()


def test_an_operation_removed_while_one_waits_for_its_lock_does_not_come_back(folder: Path) -> None:
    errors: list[BaseException] = []
    moved = folder.with_name("moved")

    def wait_in_line() -> None:
        try:
            with lock_of(folder).held():
                pass
        except OperationUnknown as error:
            errors.append(error)

    with lock_of(folder).held():
        waiting = threading.Thread(target=wait_in_line)
        waiting.start()
        folder.rename(moved)
    waiting.join()
    assert len(errors) == 1
    assert not folder.exists()


def test_a_link_at_the_locks_name_is_refused_and_its_target_left(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (folder / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(ControlUnusable, match="cannot lock"), lock_of(folder).held():
        pass
    assert (tmp_path / "target").read_text() == "mine"


def test_a_file_system_without_flock_is_refused_and_not_silently_made_do_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_flock)
    with pytest.raises(ControlUnusable, match=r"no flock\(2\)") as caught, lock_of(folder).held():
        pass
    assert "local file system" in str(caught.value.hint)
    with pytest.raises(ControlUnusable, match=r"no flock\(2\)"):
        SingleHolder(folder / "supervisor.lock").take()
    with pytest.raises(ControlUnusable, match=r"no flock\(2\)"):
        ClaimLock.place(str(folder / "0001"), b"{}")
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "operation.json", "supervisor.lock"]


def test_of_two_supervisors_one_works_and_the_other_takes_over_when_it_dies(
    tmp_path: Path, processes: Processes
) -> None:
    """X11."""
    path = tmp_path / "supervisor.lock"
    holder = processes.python("-c", HOLD, "single", path)
    holder.wait_for_output("held")
    standby = SingleHolder(path)
    assert not standby.take()
    holder.kill()
    assert standby.take()
    assert standby.take(), "asked again it is still ours"
    standby.give_back()
    assert SingleHolder(path).take()


@pytest.mark.parametrize("kind", ["claim", "supervisor"])
def test_a_forked_child_does_not_keep_a_lock_alive(kind: str, tmp_path: Path, processes: Processes) -> None:
    path = tmp_path / "lock"
    parent = processes.python("-c", FORK, kind, path)
    parent.wait_for_output("child ")
    assert is_held(str(path))
    parent.kill()
    child = int(parent.output.split()[-1])
    os.kill(child, 0)  # it lives
    assert not is_held(str(path))


def test_a_claim_is_locked_from_the_first_instant_of_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "0001")
    seen: set[bool] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            if os.path.exists(path):
                seen.add(is_held(path))

    looker = threading.Thread(target=look)
    looker.start()
    held = [ClaimLock.place(path, b"{}") for _ in range(100)]
    wait_for(lambda: seen)
    is_over.set()
    looker.join()
    for lock in held:
        lock.release()
    assert seen == {True}


def test_a_claim_is_ours_until_its_file_is_removed_or_replaced_or_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "0001"
    first = ClaimLock.place(str(path), b"one")
    assert first.is_ours()
    second = ClaimLock.place(str(path), b"two")
    assert not first.is_ours()
    assert second.is_ours()
    assert path.read_bytes() == b"two"
    path.unlink()
    assert not second.is_ours()
    third = ClaimLock.place(str(path), b"three")
    third.release()
    third.release()
    assert not third.is_ours()
    assert path.exists(), "releasing leaves the file"


def test_a_claim_that_cannot_be_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "0001").mkdir()
    with pytest.raises(IsADirectoryError):
        ClaimLock.place(str(tmp_path / "0001"), b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["0001"]


def test_nothing_and_what_is_no_file_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert not any(is_held(str(tmp_path / name)) for name in ("nothing", "link"))


def test_looking_at_a_claim_does_not_disturb_one_who_looks_too(tmp_path: Path) -> None:
    path = tmp_path / "0001"
    path.touch()
    with path.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        assert not is_held(str(path))


@pytest.mark.usefixtures("umask_027")
def test_lock_files_have_the_documented_permissions(bench: Bench) -> None:
    """B105."""
    operation = bench.start()
    holder = SingleHolder(bench.control.layout.supervisor_lock)
    assert holder.take()
    holder.give_back()
    for path in (operation.path / "lock", bench.control.layout.supervisor_lock):
        assert path.stat().st_mode & 0o777 == 0o640


def test_a_frozen_holder_still_holds(folder: Path, processes: Processes) -> None:
    holder = processes.python("-c", HOLD, "folder", folder)
    holder.wait_for_output("held")
    holder.stop()
    assert not is_free(folder)
    holder.kill()
    wait_for(lambda: is_free(folder), 1.0)


def test_a_forked_child_locks_a_folder_that_its_parent_has_locked_before(folder: Path) -> None:
    """A pool process that is forked later uses the operations that its parent knows."""
    lock = FolderLock(folder, "operation.json")
    with lock.held():
        pass
    child = os.fork()
    if child == 0:
        try:
            with lock.held():
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    with lock.held():
        pass
