"""What people get wrong, and what machines do to them: a clear error, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import RedisServer, wait_for
from tapfs.flow.operations.tally import save


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("start", "tallly", "path=x"), ("no operation 'tallly'", "did you mean 'tally'")),
        (
            ("start", "tally", "path=people.csv", "by=company", "of=gendre"),
            ("no column 'gendre'", "did you mean 'gender'"),
        ),
        (("start", "tally", "path=nowhere.csv", "by=a", "of=b"), ("nowhere.csv", "No such file")),
        (("start", "tally", "path=.", "by=a", "of=b"), ("it is a directory",)),
        (("start", "tally", "path=latin.csv", "by=company", "of=gender"), ("latin.csv", "UTF-8", "byte")),
        (("start", "tally", "path=pipe", "by=a", "of=b"), ("pipe",)),
        (("start", "countdown", "steps=0"), ("steps",)),
        (("start", "countdown", "steps=many", "secnds=1"), ("'steps'", "'secnds'", "did you mean 'seconds'")),
        (("show", "nosuch"), ("no operation 'nosuch'",)),
        (("--app", "nosuch:app", "operations"), ("nosuch",)),
        (("--app", "json:dumps", "operations"), ("no Celery app",)),
    ],
)
def test_bad_words_are_explained_and_nothing_is_made(site, tmp_path: Path, words: tuple[str, ...], parts) -> None:
    """B94, B95."""
    (tmp_path / "people.csv").write_text("first_name,gender,company\nZoë,female,X\n")
    (tmp_path / "latin.csv").write_bytes("company,gender,Größe\n".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe")
    process = site.tapfs(*words, expect=1)
    assert process.errors.startswith("tapfs: ")
    for part in parts:
        assert part in process.errors, process.errors
    assert list(site.control.glob("operations/*")) == []


def test_a_control_directory_of_a_newer_format_is_refused_and_left_alone(site) -> None:
    site.control.mkdir()
    (site.control / "format").write_text("tapfs 2\n")
    for words in (("list",), ("start", "countdown"), ("pause", "x"), ("run", "countdown"), ("verify",)):
        process = site.tapfs(*words, expect=1)
        assert "tapfs 2" in process.errors
    assert [path.name for path in site.control.iterdir()] == ["format"]


def test_a_read_only_control_directory_is_refused_with_its_path(site, processes) -> None:
    site.control.mkdir(mode=0o555)
    # Root may write everywhere: without that right it is a user as any other.
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    words = (sys.executable, "-m", "tapfs", "start", "countdown")
    process = processes(*command, *words, env=site.environment, separate_errors=True)
    assert process.wait() == 1, process.tail
    assert "Traceback" not in process.errors
    assert process.errors.startswith(f"tapfs: cannot set up '{site.control}' as control directory: Permission denied")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
def test_a_full_disk_is_said_and_the_operation_is_as_it_was(site, processes, small_disk: Path) -> None:
    site.control = small_disk / "control"
    process = processes.tapfs("start", "countdown", "--paused", env=site.environment, separate_errors=True)
    assert process.wait() == 0, process.tail
    operation_id = process.output.strip()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 512)
        except OSError:
            pass
    folder = site.control / "operations" / operation_id
    for words in (("start", "countdown"), ("resume", operation_id), ("cancel", operation_id)):
        refused = processes.tapfs(*words, env=site.environment, separate_errors=True)
        assert refused.wait() == 1, refused.tail
        assert "space" in refused.errors
        assert "Traceback" not in refused.errors
    assert json.loads((folder / "state.json").read_text())["state"] in ("paused", "running")
    assert [path.name for path in (site.control / "operations").iterdir()] == [operation_id]
    filler.unlink()
    again = processes.tapfs("cancel", operation_id, env=site.environment, separate_errors=True)
    assert again.wait() == 0, again.tail
    assert json.loads((folder / "state.json").read_text())["state"] == "cancelled"


def test_an_operation_waits_for_a_broker_that_cannot_be_reached(site, own_redis: RedisServer) -> None:
    """B93: it is kept `queued`, that is said, and it is published by itself later."""
    site.broker = own_redis.url(0)
    own_redis.stop()
    started = site.tapfs("start", "countdown", "steps=2", "seconds=0")
    operation = site.bus.find(started.output.strip())
    assert operation.state == "queued"
    assert "waits: " in (operation.view().message or "")
    assert "broker" in started.errors
    own_redis.start()
    site.worker()
    site.wait(operation, "succeeded", 60)
    assert operation.view().message is None


def test_an_output_file_appears_only_complete(tmp_path: Path) -> None:
    """B75: whoever reads it while it is written anew sees the old one or the new one."""
    target = tmp_path / "out.json"
    stop = threading.Event()
    seen: list[int] = []
    broken: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(len(json.loads(target.read_text())))
            except FileNotFoundError:
                continue
            except ValueError as error:
                broken.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for size in range(1, 150):
        save({f"company {number}": {"female": number} for number in range(size)}, str(target), is_folder=False)
    wait_for(lambda: 149 in seen)
    stop.set()
    reader.join()
    assert broken == []
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
