"""The tests' own support: it waits, it reports, and it leaves nothing behind."""

import os
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support import Process, Processes, RedisServer, redis_executable, wait_for

WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_wait_for_returns_what_the_condition_returned() -> None:
    answers = iter([None, "", "there"])
    assert wait_for(lambda: next(answers)) == "there"


def test_wait_for_says_after_the_deadline_what_is_there_instead() -> None:
    seen: list[int] = []
    with pytest.raises(AssertionError, match=r"after 0\.05 s: asked \d+ times"):
        wait_for(lambda: seen.append(1), 0.05, lambda: f"asked {len(seen)} times")


def test_wait_for_asks_once_when_there_is_no_time() -> None:
    seen: list[int] = []
    with pytest.raises(AssertionError):
        wait_for(lambda: seen.append(1), 0)
    assert len(seen) == 1


def test_a_process_gives_its_exit_status_and_its_output(processes: Processes) -> None:
    process = processes.python("-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert process.wait() == 3
    assert set(process.output.split()) == {"out", "err"}


def test_errors_can_have_a_file_of_their_own(processes: Processes) -> None:
    process = processes.python(
        "-c", "import sys; print('out'); print('err', file=sys.stderr)", separate_errors=True, env={"HOME": None}
    )
    assert process.wait() == 0
    assert (process.output, process.errors) == ("out\n", "err\n")


def test_a_process_starts_in_the_tests_own_directory(processes: Processes, tmp_path: Path) -> None:
    process = processes.python("-c", "import os; print(os.getcwd())")
    process.wait()
    assert process.output.strip() == str(tmp_path)


def test_waiting_for_output_fails_at_once_when_the_process_has_ended(processes: Processes) -> None:
    process = processes.python("-c", "print('something else')")
    with pytest.raises(AssertionError, match=r"ended without writing 'ready'.*\nsomething else"):
        process.wait_for_output("ready", timeout_s=60)


def test_waiting_for_the_end_of_a_process_has_a_deadline(processes: Processes) -> None:
    process = processes("sleep", "600")
    with pytest.raises(AssertionError, match=r"sleep-1 still runs after 0\.05 s"):
        process.wait(0.05)


@pytest.mark.parametrize(("send", "number"), [(Process.interrupt, signal.SIGINT), (Process.terminate, signal.SIGTERM)])
def test_a_signal_reaches_the_process(
    processes: Processes, send: Callable[[Process], None], number: signal.Signals
) -> None:
    process = processes("sleep", "600")
    send(process)
    assert process.wait() == -number


def test_a_stopped_process_goes_on_after_cont(processes: Processes) -> None:
    process = processes.python("-c", "import time\nwhile True: print('tick'); time.sleep(0.005)")
    process.wait_for_output("tick")
    process.stop()
    written = process.output
    time.sleep(0.05)
    assert process.output == written
    process.cont()
    wait_for(lambda: len(process.output) > len(written))


@pytest.mark.parametrize("first", [None, Process.kill, Process.stop], ids=["running", "killed", "stopped"])
def test_closing_ends_a_process_and_its_children(tmp_path: Path, first: Callable[[Process], None] | None) -> None:
    processes = Processes(tmp_path)
    process = processes.python("-c", WITH_CHILD)
    child = int(process.wait_for_output("\n").split()[1])
    assert process.children() == [child]
    if first:
        first(process)
    processes.close()
    wait_for(lambda: not is_alive(child))
    assert not process.is_running


def test_a_failing_test_shows_the_output_of_its_processes(run_pytest: Callable[[str], tuple[int, str]]) -> None:
    status, output = run_pytest("""
        def test_it(processes):
            process = processes.python("-c", "print('last words')", name="worker")
            process.wait()
            assert not process.output
    """)
    assert status == 1
    assert "output of worker-1" in output
    assert "last words" in output


@pytest.mark.parametrize(
    ("reason", "statuses"), [("no time", (1, 2)), ("this machine cannot: mount", (0, 5))], ids=["any", "machine"]
)
def test_in_ci_only_the_machine_is_a_reason_to_skip(
    run_pytest: Callable[[str], tuple[int, str]], reason: str, statuses: tuple[int, int]
) -> None:
    in_test, _ = run_pytest(f"""
        import pytest
        def test_it():
            pytest.skip({reason!r})
    """)
    in_module, _ = run_pytest(f"""
        import pytest
        pytest.skip({reason!r}, allow_module_level=True)
    """)
    assert (in_test, in_module) == statuses


def test_tapfs_and_celery_settings_of_the_developer_are_not_seen(
    run_pytest: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPFS_CONTROL", "/elsewhere")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    status, output = run_pytest("""
        import os
        def test_it():
            assert not [name for name in os.environ if name.startswith(("TAPFS_", "CELERY_"))]
    """)
    assert status == 0, output


def test_each_redis_database_is_empty_and_the_tests_own(redis_url: str, request: pytest.FixtureRequest) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
    assert request.node.get_closest_marker("redis")


def test_redis_comes_back_empty_at_the_same_address(own_redis: RedisServer) -> None:
    url, pid = own_redis.url(), own_redis.process.pid
    with own_redis.client() as client:
        client.set("kept", "no")
    own_redis.stop()
    assert not is_alive(pid)
    own_redis.start()
    assert own_redis.url() == url
    with own_redis.client() as client:
        assert client.dbsize() == 0


def test_redis_is_found_on_the_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho broken configuration; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert redis_executable() == program
    with pytest.raises(AssertionError, match="broken configuration"):
        RedisServer(tmp_path / "redis").start()


def test_a_missing_redis_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.servers.redis_executable", lambda: None)
    with pytest.raises(AssertionError, match="install one of them"):
        RedisServer(tmp_path).start()


@pytest.fixture
def run_pytest(processes: Processes, tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """Run pytest in CI's way on a test file with this text and the project's conftest; return status and output."""

    def run(text: str) -> tuple[int, str]:
        here = Path(__file__).parent
        (tmp_path / "conftest.py").write_text((here / "conftest.py").read_text())
        (tmp_path / "test_inner.py").write_text(textwrap.dedent(text))
        process = processes.python(
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path),
            *("-o", f"pythonpath={here}", "-o", "markers=redis: r", tmp_path / "test_inner.py"),
            env={"CI": "true"},
        )
        return process.wait(60), process.output

    return run
