"""The operations that come along: `tally` and `countdown`."""

import csv
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.flows import Post, finish, touch
from tapfs import Bus, Operation, State, TapfsError
from tapfs.bus.records import Checkpoint
from tapfs.flow import place, tap
from tapfs.flow.operations import countdown as countdown_module
from tapfs.flow.operations import tally as tally_module
from tapfs.flow.operations.countdown import countdown, tick
from tapfs.flow.operations.tally import count, find_columns, save, tally
from tapfs.flow.parameters import ArgumentsRefused
from tapfs.flow.sources import SourceError


@pytest.fixture
def built_in(bus: Bus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bus:
    monkeypatch.setenv("TAPFS_DATA", str(tmp_path / "data"))
    bus.operation(tally)
    bus.operation(countdown)
    return bus


def plain_loop(path: Path, by: str, of: str) -> dict[str, dict[str, int]]:
    """What the tally must give: a loop with `csv.reader`; a row too short counts under an empty text."""
    totals: dict[str, dict[str, int]] = {}
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = csv.reader(stream)
        header = next(rows)
        places = [header.index(by), header.index(of)]
        for row in rows:
            if row:
                one, other = (row[place] if place < len(row) else "" for place in places)
                totals.setdefault(one, Counter())[other] += 1
    return {one: dict(totals[one]) for one in totals}


ODD = {
    "plain": "company,gender\nA,f\nB,m\nA,f\n",
    "no final newline": "company,gender\nA,f\nB,m",
    "crlf": "company,gender\r\nA,f\r\nB,m\r\n",
    "old mac": "company,gender\rA,f\rB,m\r",
    "header only": "company,gender\n",
    "header only without newline": "company,gender",
    "byte order mark": "\ufeffcompany,gender\nA,f\n",
    "quoted newline": 'company,gender\n"A\nInc",f\n"A\nInc",m\n"A\r\nInc",m\n',
    "quotes": 'company,gender\n"A ""the first""",f\nA "x",m\n',
    "quoted header": '"company","gen\nder, or so",gender\nA,1,f\n',
    "ragged": "company,name,gender\nA\nA,x\nA,x,f\nA,x,f,more,and,more\n\n,,\n",
    "blank lines": "company,gender\n\n\nA,f\n\n\nB,m\n\n",
    "not ascii": "company,gender\n日本電気,f\nÄpfel & Söhne,m\n\u2028\u0085,f\n",
    "odd order": "gender,x,company\nf,1,A\nm,2,B\n",
    "same name twice": "company,gender,company\nA,f,Z\n",
    "many": "company,gender\n" + "".join(f'"C{n % 97}, Ltd",{"fmx"[n % 3]}\n' for n in range(20_000)),
}


@pytest.mark.parametrize("name", ODD)
def test_a_tally_is_exactly_that_of_a_plain_loop(name: str, built_in: Bus, post: Post, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(ODD[name].encode())
    operation = built_in.start("tally", path=path, by="company", of="gender")
    post.deliver_all()
    assert operation.state is State.SUCCEEDED, operation.failure()
    assert operation.result == plain_loop(path, "company", "gender")
    assert [step.name for step in operation.plan().steps] == ["check", "count", "save"]


def test_a_tally_may_count_a_column_by_itself(built_in: Bus, post: Post, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("company,gender\nA,f\nB,m\nA,m\n")
    operation = built_in.start("tally", path=path, by="company", of="company")
    post.deliver_all()
    assert operation.result == {"A": {"A": 2}, "B": {"B": 1}}


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_tally_is_exact_after_pauses_at_every_chunk(
    built_in: Bus, post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B22, B23, B32"""
    path = tmp_path / "people.csv"
    path.write_text(ODD["many"])
    operation = built_in.start("tally", path=path, by="company", of="gender")
    pauses = 0
    real = place.Place.turn

    def pause(self: Any, fold: Any, cursor: Any, done: float) -> None:
        nonlocal pauses
        if cursor != fold.cursor:  # a chunk was read
            pauses += 1
            touch(operation.path / "PAUSE")
        real(self, fold, cursor, done)

    monkeypatch.setattr(place.Place, "turn", pause)
    assert finish(built_in, post, operation) is State.SUCCEEDED
    assert pauses >= 20
    assert operation.result == plain_loop(path, "company", "gender")


def test_a_tally_writes_its_counts_sorted_into_the_data_directory(built_in: Bus, post: Post, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("company,gender\nB,m\nA,m\nA,é\nA,f\n")
    operation = built_in.start("tally", path=path, by="company", of="gender")
    post.deliver_all()
    [written] = (tmp_path / "data").iterdir()
    assert written.name == f"{operation.id}.json"
    text = written.read_text(encoding="utf-8")
    assert list(json.loads(text).items()) == [("A", {"f": 1, "m": 1, "é": 1}), ("B", {"m": 1})]
    assert '"é": 1' in text
    assert list(operation.result) == ["A", "B"]


def test_a_tally_writes_to_the_file_that_is_named_and_makes_its_folder(
    built_in: Bus, post: Post, tmp_path: Path
) -> None:
    path, output = tmp_path / "people.csv", tmp_path / "new" / "counts.json"
    path.write_text("company,gender\nB,m\n")
    operation = built_in.start("tally", path=path, by="company", of="gender", output=output)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert json.loads(output.read_text()) == {"B": {"m": 1}}
    assert not (tmp_path / "data").exists()


def test_an_output_that_cannot_be_written_fails_clearly_and_the_counts_are_kept(
    built_in: Bus, post: Post, tmp_path: Path
) -> None:
    path, output = tmp_path / "people.csv", tmp_path / "folder"
    path.write_text("company,gender\nB,m\n")
    operation = built_in.start("tally", path=path, by="company", of="gender", output=output)
    output.mkdir()
    with pytest.raises(TapfsError, match="it is a folder"):
        built_in.start("tally", path=path, by="company", of="gender", output=output)
    post.deliver_all()
    failure = operation.failure()
    assert failure is not None
    assert failure.message.startswith(f"cannot write the counts to '{output}': ")
    output.rmdir()
    operation.resume()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert operation.view().steps_done == 3


def test_missing_columns_are_all_named_with_near_matches_and_nothing_is_started(built_in: Bus, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("first_name,company,gender\n")
    with pytest.raises(SourceError) as caught:
        built_in.start("tally", path=path, by="compny", of="weight")
    assert str(caught.value) == (f"'{path}' has no column 'compny' (did you mean 'company'?) and no column 'weight'")
    assert caught.value.hint == "its columns: first_name, company, gender"
    assert not (built_in.control.path / "operations").exists()


def test_a_missing_column_is_named_once() -> None:
    with pytest.raises(SourceError, match=r"has no column 'x'$"):
        find_columns(__file__, "x", "x")


def test_an_empty_file_has_no_columns(built_in: Bus, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()
    with pytest.raises(SourceError) as caught:
        built_in.start("tally", path=path, by="a", of="b")
    assert caught.value.hint == "its columns: none: it is empty"


@pytest.mark.parametrize("kind", ["missing", "folder", "not utf-8"])
def test_a_file_that_cannot_be_read_is_refused_before_anything_is_created(
    kind: str, built_in: Bus, tmp_path: Path
) -> None:
    """B95"""
    path = tmp_path / "people.csv"
    if kind == "folder":
        path.mkdir()
    if kind == "not utf-8":
        path.write_bytes(b"company,gender\xff\n")
    with pytest.raises(SourceError) as caught:
        built_in.start("tally", path=path, by="company", of="gender")
    assert str(path) in str(caught.value)
    assert not (built_in.control.path / "operations").exists()


def test_a_row_that_is_not_text_fails_with_its_place_and_all_before_it_is_kept(
    built_in: Bus, post: Post, tmp_path: Path
) -> None:
    """B68"""
    path = tmp_path / "people.csv"
    good = b"company,gender\n" + b"A,f\n" * 10_000
    path.write_bytes(good + b"\xff,f\n")
    operation = built_in.start("tally", path=path, by="company", of="gender")
    post.deliver_all()
    failure = operation.failure()
    assert failure is not None
    assert f"row 10002 is not utf-8: byte {len(good)} is 0xff" in failure.message
    checkpoint = Checkpoint.read(operation.path / "steps" / "0002-count.checkpoint.json")
    rows = checkpoint.folds[0]["cursor"]["row"] - 1
    assert rows > 0
    assert checkpoint.folds[0]["value"] == {"A": {"f": rows}}


@pytest.mark.parametrize("pace", [0, -5])
def test_a_pace_below_one_is_refused(built_in: Bus, tmp_path: Path, pace: int) -> None:
    with pytest.raises(TapfsError, match=f"cannot tally at a pace of {pace} rows a second"):
        built_in.start("tally", path=tmp_path / "x.csv", by="a", of="b", pace=pace)


class Sleeper:
    """Stands in for the module `time`: sleeping takes no time, and is noted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    sleeper = Sleeper()
    for module in (tally_module, countdown_module):
        monkeypatch.setattr(module, "time", sleeper)
    return sleeper


@pytest.mark.parametrize("pace", [1, 100, 10_000, 10_000_000])
def test_a_pace_is_kept_in_small_portions_so_that_it_can_be_paused_soon(
    tmp_path: Path, sleeper: Sleeper, pace: int
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("company,gender\n" + "Company,female\n" * 2000)
    assert count([0, 1], str(path), pace) == {"Company": {"female": 2000}}
    assert sum(sleeper.slept) == pytest.approx(2000 / pace)
    assert max(sleeper.slept) <= max(0.5, 1 / pace)


# countdown


def test_a_countdown_is_a_chain_of_steps_that_count_down(built_in: Bus, post: Post, sleeper: Sleeper) -> None:
    operation = built_in.start("countdown", steps=3, seconds=0.12)
    assert [step.args for step in operation.plan().steps] == [[3, 0.12], [2, 0.12], [1, 0.12]]
    assert [step.label for step in operation.plan().steps] == ["0001-tick", "0002-tick", "0003-tick"]
    post.deliver_all()
    assert operation.result == 0
    assert sum(sleeper.slept) == pytest.approx(0.36)
    assert max(sleeper.slept) <= 0.05


@pytest.mark.parametrize(("steps", "seconds"), [(1, 0), (100_000, 0.5)])
def test_a_countdown_takes_its_limits(steps: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(countdown_module, "chain", lambda *signatures: len(signatures))  # a real one takes its time
    assert countdown(steps, seconds) == steps


@pytest.mark.parametrize(
    ("steps", "seconds"), [(0, 1.0), (-1, 1.0), (100_001, 1.0), (1, -0.1), (1, float("nan")), (1, float("inf"))]
)
def test_a_countdown_beyond_its_limits_is_refused(bus: Bus, steps: int, seconds: float) -> None:
    with pytest.raises(TapfsError, match=f"cannot count down {steps} steps") as caught:
        countdown(steps, seconds)
    assert caught.value.hint == "steps must be from 1 to 100,000, and seconds not below 0"


def test_a_countdowns_arguments_are_checked_when_it_is_started(built_in: Bus) -> None:
    with pytest.raises(ArgumentsRefused):
        built_in.start_parsed("countdown", ["steps=many", "seconds=-"])
    with pytest.raises(TapfsError, match="cannot count down 0 steps"):
        built_in.start_parsed("countdown", ["steps=0"])
    assert not (built_in.control.path / "operations").exists()


def test_a_countdown_of_no_seconds_does_not_wait(sleeper: Sleeper) -> None:
    assert tick(5, 0) == 4
    assert sleeper.slept == []


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_countdown_stops_within_a_step(built_in: Bus, post: Post) -> None:
    operation = built_in.start("countdown", steps=2, seconds=60)
    touch(operation.path / "PAUSE")
    began = time.monotonic()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert time.monotonic() - began < 30


# The built-in app


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_saved_tally_outside_an_operation_has_a_plain_name(data: Path) -> None:
    assert save({"B": {"m": 1}}, str(data), is_folder=True) == {"B": {"m": 1}}
    assert tap.operation_id() is None
    assert (data / "tally.json").exists()


def test_both_can_be_run_by_any_app_for_their_tasks_are_shared(app: Celery, built_in: Bus) -> None:
    assert {"tapfs.tally.check", "tapfs.tally.count", "tapfs.tally.save", "tapfs.countdown.tick"} <= set(app.tasks)
    operation: Operation = built_in.start("countdown", steps=1)
    assert operation.plan().steps[0].task == "tapfs.countdown.tick"
