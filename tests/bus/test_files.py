"""Durable files: whole or not at all, and reading that never hangs and follows no link."""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import Processes, skip_unless
from tapfs.bus import files, swap


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_create_gives_a_free_name_its_content(tmp_path: Path) -> None:
    files.create(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_create_refuses_a_taken_name_and_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    with pytest.raises(FileExistsError):
        files.create(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_of_many_who_create_one_name_at_once_exactly_one_succeeds(tmp_path: Path) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait()
        try:
            files.create(tmp_path / "a", b"%d" % number)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % number for number in won] == [(tmp_path / "a").read_bytes()]
    assert names(tmp_path) == ["a"]


def test_replace_never_shows_a_reader_a_mixed_or_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    versions = {bytes([letter]) * (1 + letter * 700) for letter in range(1, 60)}
    files.replace(path, b"\1" * 701)
    seen: set[bytes] = set()
    is_over = threading.Event()

    def read_on() -> None:
        while not is_over.is_set():
            seen.add(files.read_bytes(path, 1 << 20))

    reader = threading.Thread(target=read_on)
    reader.start()
    for version in sorted(versions):
        files.replace(path, version)
    is_over.set()
    reader.join()
    assert len(seen) > 1
    assert seen <= versions


@pytest.mark.parametrize(
    ("write", "order"),
    [
        (files.replace, ["sync .tmp", "rename", "sync files"]),
        (files.create, ["sync .tmp", "link", "sync files"]),
        (files.append_line, ["sync a", "sync files"]),
    ],
)
def test_bytes_are_synced_before_they_get_their_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None], order: list[str]
) -> None:
    """A name must never point at missing bytes, and must itself outlive a power cut."""
    folder = tmp_path / "files"
    folder.mkdir()
    calls: list[str] = []

    def note_sync(descriptor: int) -> None:
        calls.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition("-")[0])

    for name in ("rename", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *names, name=name, real=real: (calls.append(name), real(*names)))
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, note_sync)
    write(folder / "a", b"new")
    assert calls == order


@pytest.mark.parametrize(
    ("value", "is_synced"), [(None, True), ("on", True), ("", True), ("OFF", True), ("off", False)]
)
def test_everything_is_synced_unless_the_user_wants_speed_and_then_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, is_synced: bool
) -> None:
    """What is written is whole either way, as long as the power stays."""
    calls: list[str] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor, name=name: calls.append(name))
    if value is not None:
        monkeypatch.setenv("TAPFS_SYNC", value)
    files.make_dirs(tmp_path / "b" / "c", tmp_path)
    files.replace(tmp_path / "a", b"one")
    files.create(tmp_path / "new", b"two")
    files.append_line(tmp_path / "lines", b"three")
    files.put_aside(tmp_path / "new", tmp_path / "attic" / "new")
    files.sync_dir(tmp_path)
    assert bool(calls) == is_synced
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "attic" / "new").read_bytes() == b"two"
    assert (tmp_path / "lines").read_bytes() == b"three\n"


def test_replace_takes_the_place_of_a_link_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "a").symlink_to("target")
    files.replace(tmp_path / "a", b"new")
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert not (tmp_path / "a").is_symlink()


def test_replace_of_a_folder_fails_and_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        files.replace(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


def test_a_folder_in_the_place_of_a_file_of_tapfs_is_set_aside_with_all_that_is_in_it(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "mine").write_text(str(number))
        files.replace_own(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"new"
        (tmp_path / "a").unlink()
    assert names(tmp_path) == ["a.rejected-1", "a.rejected-2"]
    assert (tmp_path / "a.rejected-2" / "mine").read_text() == "2"


FULL_DISK = """
import errno, os, resource, sys
from pathlib import Path
from tapfs.bus import files

folder = Path(sys.argv[1])
files.replace(folder / "a", b"old")
files.append_line(folder / "log", b"first")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # beyond, write(2) takes a part, then fails, as on a full disk
for write in (files.replace, files.create):
    try:
        write(folder / "a", b"x" * 10_000)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError("it was written")
try:
    files.append_line(folder / "log", b"y" * 10_000)
except OSError as error:
    assert error.errno == errno.EFBIG, error
else:
    raise AssertionError("it was written")
"""


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path: Path, processes: Processes) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    process = processes.python("-c", FULL_DISK, folder)
    assert process.wait() == 0, process.output
    assert (folder / "a").read_bytes() == b"old"
    assert names(folder) == ["a", "log"]


def test_a_line_cut_short_by_a_full_disk_is_an_error_and_is_closed_by_the_next(
    tmp_path: Path, processes: Processes
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    process = processes.python("-c", FULL_DISK, folder)
    assert process.wait() == 0, process.output
    files.append_line(folder / "log", b"last")
    lines = (folder / "log").read_bytes().split(b"\n")
    assert (lines[0], lines[2:]) == (b"first", [b"last", b""])


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "large"])
def test_read_bytes_refuses_what_is_not_a_small_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "link":
        (tmp_path / "target").write_bytes(b"secret")
        path.symlink_to("target")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 11)
    with pytest.raises(files.NotAFile):
        files.read_bytes(path, 10)


@pytest.mark.root
def test_read_bytes_refuses_a_device(tmp_path: Path) -> None:
    with pytest.raises(files.NotAFile, match="not a regular file"):
        files.read_bytes("/dev/zero", 10)


def test_read_bytes_refuses_a_socket(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(files.NotAFile, match="not a regular file"):
            files.read_bytes(tmp_path / "s", 10)


def test_read_bytes_reads_up_to_the_limit_and_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert files.read_bytes(tmp_path / "a", 10) == b"x" * 10
    with pytest.raises(FileNotFoundError):
        files.read_bytes(tmp_path / "b", 10)


def test_append_line_adds_a_line_and_makes_the_file(tmp_path: Path) -> None:
    for line in (b"one", b"two"):
        files.append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_append_line_closes_a_torn_last_line_first(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntw")
    files.append_line(tmp_path / "log", b"three")
    assert (tmp_path / "log").read_bytes() == b"one\ntw\nthree\n"


def test_append_line_writes_through_no_link_and_does_not_hang_on_a_fifo(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ELOOP))):
        files.append_line(tmp_path / "link", b"line")
    with pytest.raises(files.NotAFile, match="not a regular file"):
        files.append_line(tmp_path / "fifo", b"line")
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_read_tail_returns_the_end_and_nothing_of_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    os.mkfifo(tmp_path / "fifo")
    assert files.read_tail(tmp_path / "a", 3) == b"789"
    assert files.read_tail(tmp_path / "a", 100) == b"0123456789"
    assert [files.read_tail(tmp_path / name, 3) for name in ("fifo", "nothing", ".")] == [b"", b"", b""]


@pytest.fixture
def can_exchange(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).touch()
    skip_unless(swap.exchange(tmp_path / "x", tmp_path / "y"), "exchange two names")
    for name in ("x", "y"):
        (tmp_path / name).unlink()


@pytest.mark.usefixtures("can_exchange")
def test_exchange_swaps_two_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").mkdir()
    assert swap.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").read_bytes() == b"one"


@pytest.mark.usefixtures("can_exchange")
def test_exchange_with_nothing_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    with pytest.raises(FileNotFoundError):
        swap.exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_exchange_says_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_renameat2", None)
    (tmp_path / "a").write_bytes(b"one")
    assert not swap.exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_has_writer_sees_a_writer_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    skip_unless(swap.has_writer(path) is not None, "take a lease on a file")
    with path.open("rb"):
        assert swap.has_writer(path) is False
    with path.open("ab"):
        assert swap.has_writer(path) is True
    assert swap.has_writer(path) is False


def test_has_writer_does_not_know_of_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert [swap.has_writer(tmp_path / name) for name in ("nothing", "link", ".")] == [None, None, None]


@pytest.mark.usefixtures("umask_027")
def test_files_and_folders_are_the_owners_and_the_groups_less_the_umask(tmp_path: Path) -> None:
    """B105."""
    files.replace(tmp_path / "replaced", b"")
    files.create(tmp_path / "created", b"")
    files.append_line(tmp_path / "log", b"")
    files.make_dirs(tmp_path / "one" / "two", tmp_path)
    assert {name: mode_of(tmp_path / name) for name in names(tmp_path)} == {
        "created": 0o640,
        "log": 0o640,
        "one": 0o750,
        "replaced": 0o640,
    }
    assert mode_of(tmp_path / "one" / "two") == 0o750


def test_make_dir_says_whether_it_made_it(tmp_path: Path) -> None:
    assert files.make_dir(tmp_path / "a")
    assert not files.make_dir(tmp_path / "a")


def test_remove_says_whether_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert files.remove(tmp_path / "a")
    assert not files.remove(tmp_path / "a")


def test_the_identity_of_a_file_changes_when_it_is_written_anew(tmp_path: Path) -> None:
    seen = set()
    for content in (b"one", b"two"):
        files.replace(tmp_path / "a", content)
        seen.add(files.identity_of((tmp_path / "a").stat()))
    assert len(seen) == 2


def test_exists_sees_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    assert files.exists(tmp_path / "a")
    assert not files.exists(tmp_path / "b")
