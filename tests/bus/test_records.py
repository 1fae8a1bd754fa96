"""The records on disk and their codec."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapfs.bus.fields import Faulty, Field
from tapfs.bus.records import (
    LONGEST_REASON,
    Checkpoint,
    Claim,
    Commit,
    Failure,
    Holder,
    Identity,
    Record,
    Run,
    StateView,
    plain,
)
from tapfs.errors import RecordInvalid

RECORDS = (Identity, StateView, Run, Holder, Claim, Commit, Checkpoint, Failure)

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**63), 2**63),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    list: st.lists(_SCALARS, max_size=3),
    dict: st.dictionaries(st.text(), _SCALARS, max_size=3),
    type(None): st.none(),
}


def values_of(field: Field) -> st.SearchStrategy[Any]:
    if field.choices:
        choices = st.sampled_from(field.choices).map(str)
        return choices | st.none() if type(None) in field.kinds else choices
    if field.longest is not None:
        return st.none() | st.text(max_size=field.longest)
    return st.one_of([_VALUES[kind] for kind in field.kinds])


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind = draw(st.sampled_from(RECORDS))
    return kind(**{name: draw(values_of(field)) for name, field in kind.specification().items()})


@given(records())
def test_every_record_is_read_as_it_was_written(record: Record) -> None:
    assert type(record).decode(record.encode(), strict=True) == record


@pytest.mark.parametrize("kind", RECORDS)
def test_every_record_names_all_its_missing_fields_at_once(kind: type[Record]) -> None:
    required = [name for name, field in kind.specification().items() if field.required]
    if not required:
        assert kind.decode(b"{}") == kind()
        return
    with pytest.raises(Faulty) as caught:
        kind.decode(b"{}")
    assert caught.value.faults == tuple(f"field '{name}' is missing" for name in required)


@pytest.mark.parametrize("kind", RECORDS)
def test_every_record_ends_with_one_newline_and_shows_a_field_a_line(kind: type[Record]) -> None:
    samples = {str: "text", int: 1, dict: {}, list: []}
    record = kind(**{name: samples[one.kinds[0]] for name, one in kind.specification().items() if one.required})
    text = record.encode().decode()
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert all(any(line.startswith(f'  "{one.name}": ') for line in text.splitlines()) for one in fields(kind))


def test_records_of_tapfs_are_read_leniently_and_what_people_write_strictly() -> None:
    assert Run.decode(b'{"epoch": 3, "later": true}').epoch == 3
    with pytest.raises(Faulty, match="did you mean 'reason'"):
        StateView.decode(b'{"want": "run", "raeson": "lunch"}', strict=True)


def test_a_partial_state_is_a_whole_request() -> None:
    assert StateView.decode(b'{"want": "pause"}', strict=True) == StateView(want="pause")


def test_a_reason_may_be_so_long_and_no_longer() -> None:
    StateView.decode(StateView("run", "x" * LONGEST_REASON).encode())
    with pytest.raises(Faulty, match="field 'reason': it has 1,001 characters, more than 1,000"):
        StateView.decode(StateView("run", "x" * (LONGEST_REASON + 1)).encode())


def test_two_records_share_no_default() -> None:
    assert Run(epoch=1).hinted is not Run(epoch=1).hinted


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: path.write_text('{"epoch": "x"}'), "field 'epoch': \"x\" is a text, not a whole number"),
        (lambda path: path.write_text('{\n"epoch": 1'), "line 2, column 11"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.symlink_to("/etc/passwd"), "it is a symbolic link"),
        (lambda path: os.mkfifo(path), "it is not a regular file"),
        (lambda path: path.write_bytes(b" " * 70_000), "it is larger than 65,536 bytes"),
    ],
)
def test_a_spoilt_file_is_refused_with_its_path_and_fault(tmp_path: Path, make: Any, fault: str) -> None:
    path = tmp_path / "run.json"
    make(path)
    with pytest.raises(RecordInvalid) as caught:
        Run.read(path)
    assert caught.value.path == str(path)
    assert fault in str(caught.value)


def test_a_file_that_is_not_there_is_no_invalid_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Run.read(tmp_path / "run.json")


def test_a_claims_holder_is_read_or_none() -> None:
    holder = {"worker": "w", "host": "h", "pid": 7, "claimed_at": "2027-01-15T08:00:00.000Z"}
    assert Claim(epoch=1, attempt=1, holder=holder).held_by == Holder("w", "h", 7, "2027-01-15T08:00:00.000Z")
    assert Claim(epoch=1, attempt=1).held_by is None
    assert Claim(epoch=1, attempt=1, holder={"worker": "w"}).held_by is None


def test_plain_gives_back_what_json_would_and_refuses_what_it_cannot_hold() -> None:
    assert plain({"a": (1, 2), 3: None}) == {"a": [1, 2], "3": None}
    for value in (float("nan"), {1, 2}, b"x"):
        with pytest.raises((TypeError, ValueError)):
            plain(value)
