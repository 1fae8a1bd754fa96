"""Finding a program's app and bus by name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapfs import TapfsError
from tapfs.flow.bus import bus_of
from tapfs.flow.loading import load_bus

PROGRAM = """
from celery import Celery
from tapfs import Bus
app = Celery("program", broker="memory://", task_cls="tapfs.flow:TappableTask", set_as_current=False)
bus = Bus({control!r}, app=app)
plain = Celery("plain", broker="memory://", set_as_current=False)
class inner:
    app = Celery("inner", broker="memory://", task_cls="tapfs.flow:TappableTask", set_as_current=False)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working directory that is not on the path yet."""
    name = f"program_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(PROGRAM.format(control=str(tmp_path / "control")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def test_an_app_is_found_in_a_module_of_the_working_directory(program: str, tmp_path: Path) -> None:
    bus = load_bus(f"{program}:app")
    assert bus.app.main == "program"
    assert bus.control.path == tmp_path / "control"
    assert sys.path[0] == str(tmp_path)


def test_the_apps_name_may_be_left_out_where_it_is_app(program: str) -> None:
    assert load_bus(program) is load_bus(f"{program}:app")


def test_an_app_inside_something_is_found_and_has_the_bus_of_the_environment(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPFS_CONTROL", "elsewhere")
    bus = load_bus(f"{program}:inner.app")
    assert bus.app.main == "inner"
    assert bus.control.path == tmp_path / "elsewhere"
    assert bus_of(bus.app) is bus


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module:app", "No module named 'no_such_module'"),
        ("{program}:nothing", "has no attribute 'nothing'"),
        ("", "Empty module name"),
        (":app", "Empty module name"),
        (".relative:app", "relative import"),
        ("{program}:plain", "the tasks of app '{program}:plain' cannot be steps"),
        ("{program}:bus", "is no Celery app, but Bus"),
        ("os:path", "is no Celery app, but module"),
    ],
)
def test_what_is_no_app_with_steps_is_refused_in_words(program: str, name: str, why: str) -> None:
    with pytest.raises(TapfsError) as caught:
        load_bus(name.format(program=program))
    assert why.format(program=program) in str(caught.value)
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def :", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_module_that_raises_is_said_so_without_a_traceback(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "raises_at_import.py").write_text(text)
    with pytest.raises(TapfsError, match="cannot load the app 'raises_at_import'") as caught:
        load_bus("raises_at_import")
    assert why in str(caught.value)
