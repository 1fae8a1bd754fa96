"""Times as they stand in the files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapfs.bus.clock import seconds_of, timestamp


def test_a_time_is_utc_with_milliseconds_cut_off() -> None:
    assert timestamp(1_800_000_000.9999) == "2027-01-15T08:00:00.999Z"
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"


@given(st.integers(0, 4_000_000_000_000))
def test_what_timestamp_writes_seconds_of_reads(milliseconds: int) -> None:
    assert seconds_of(timestamp(milliseconds / 1000 + 0.0001)) == pytest.approx(milliseconds / 1000, abs=0.0005)


@pytest.mark.parametrize("text", [None, "", "soon", "2027-13-01T00:00:00Z", "8:00"])
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert seconds_of(text) is None


def test_a_later_time_sorts_after_an_earlier_one() -> None:
    times = [timestamp(seconds) for seconds in (1.5, 9.25, 1_000, 1_800_000_000)]
    assert times == sorted(times)
