"""`tapfs wait`."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Tapfs = Callable[..., Result]


def test_wait_ends_when_the_state_is_reached(bench: Any, tapfs: Tapfs) -> None:
    """B98."""
    operation = bench.start()
    timer = threading.Timer(0.2, operation.pause)
    timer.start()
    result = tapfs("wait", operation.id, "--for", "paused", "--timeout", "20")
    timer.join()
    assert (result.exit_code, result.stdout) == (0, f"{operation.id}: paused\n")


def test_wait_ends_when_the_state_cannot_be_reached_any_more(bench: Any, tapfs: Tapfs) -> None:
    """B98."""
    operation = bench.start()
    operation.cancel()
    result = tapfs("wait", operation.id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is cancelled, not succeeded" in result.stderr


def test_wait_ends_when_time_is_up(bench: Any, tapfs: Tapfs, tapfs_json: Callable[..., Any]) -> None:
    """B98."""
    operation = bench.start()
    assert tapfs("wait", operation.id, "--timeout", "0.1").exit_code == 3
    answer = tapfs_json("wait", operation.id, "--timeout", "0", exit_code=3)
    assert (answer["success"], answer["state"]) == (False, "queued")


def test_wait_knows_the_states(bench: Any, tapfs: Tapfs) -> None:
    result = tapfs("wait", bench.start().id, "--for", "done")
    assert result.exit_code == 2
    assert "'succeeded'" in result.stderr


@pytest.mark.parametrize("seconds", ["nan", "1e400", "inf", "-1", "-inf", "soon"])
@pytest.mark.parametrize("words", [("wait",), ("pause", "--wait"), ("resume", "--wait"), ("cancel", "--wait")])
def test_no_time_is_waited_for_that_would_never_be_up(
    bench: Any, tapfs: Tapfs, words: tuple[str, ...], seconds: str
) -> None:
    operation = bench.start()
    result = tapfs(*words, operation.id, f"--timeout={seconds}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--timeout" in result.stderr
    assert operation.state == "queued"
