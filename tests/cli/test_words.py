"""How numbers and times read."""

import pytest

from tapfs.cli import words


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [
        (500, 1000, "rows", "500 of 1,000 rows (50 %)"),
        (999, 1000, None, "999 of 1,000 (99 %)"),
        (1000, 1000, "rows", "1,000 of 1,000 rows (100 %)"),
        (0, 1000, "rows", "0 of 1,000 rows (0 %)"),
        (500, None, "rows", "500 rows"),
        (500, 0, "rows", "500 rows"),
        (1200, 1000, "rows", "1,200 rows (1,000 expected)"),
        (48_200_000, 96_400_000, "bytes", "48.2 MB of 96.4 MB (50 %)"),
        (0.25, 1, "seconds", "0.25 of 1 seconds (25 %)"),
        (None, 1000, "rows", None),
    ],
)
def test_progress_tells_what_is_known(
    done: float | None, total: float | None, unit: str | None, text: str | None
) -> None:
    """B88."""
    assert words.progress(done, total, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.44, "0.4 s"), (12, "12 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (273_600, "3 d 4 h")],
)
def test_a_time_span_is_told_in_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_control_characters_never_reach_the_terminal() -> None:
    assert words.words_of({"path": "a\x1b[2Jb\nc"}) == "path=a [2Jb c"


def test_arguments_that_were_not_given_are_left_out() -> None:
    assert words.words_of({"path": "a.csv", "pace": None, "batch": 500, "tags": ["a"]}) == (
        'path=a.csv batch=500 tags=["a"]'
    )
