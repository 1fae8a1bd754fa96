"""What the environment sets."""

import pytest

from tapfs import settings
from tapfs.errors import TapfsError


def test_a_number_that_is_not_set_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.number("TAPFS_MAX_CRASHES", int) is None
    monkeypatch.setenv("TAPFS_MAX_CRASHES", "")
    assert settings.number("TAPFS_MAX_CRASHES", int) is None


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [("3", int, 3), (" 7 ", int, 7), ("3", float, 3.0), ("0.25", float, 0.25), ("1e3", float, 1000.0)],
)
def test_a_number_is_read_as_what_it_is_to_be(
    monkeypatch: pytest.MonkeyPatch, text: str, kind: type[int] | type[float], number: float
) -> None:
    monkeypatch.setenv("TAPFS_X", text)
    found = settings.number("TAPFS_X", kind)
    assert (found, type(found)) == (number, kind)


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf", "-inf", "10 s", "0x10", "1,5"])
@pytest.mark.parametrize(("kind", "what"), [(int, "a whole number from 1"), (float, "a number above 0")])
def test_what_is_no_number_above_nothing_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, kind: type[int] | type[float], what: str
) -> None:
    monkeypatch.setenv("TAPFS_SILENT_AFTER_S", text)
    with pytest.raises(TapfsError) as caught:
        settings.number("TAPFS_SILENT_AFTER_S", kind)
    assert str(caught.value) == f"TAPFS_SILENT_AFTER_S is '{text}': it must be {what}"
    assert caught.value.hint == "correct it, or leave it out"


def test_a_fraction_is_no_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPFS_MAX_CRASHES", "2.5")
    with pytest.raises(TapfsError, match="a whole number from 1"):
        settings.number("TAPFS_MAX_CRASHES", int)


@pytest.mark.parametrize(("value", "is_synced"), [(None, True), ("", True), ("on", True), ("no", True), ("off", False)])
def test_only_the_one_word_turns_the_sync_off(
    monkeypatch: pytest.MonkeyPatch, value: str | None, is_synced: bool
) -> None:
    """What is misspelt must not cost safety."""
    if value is not None:
        monkeypatch.setenv("TAPFS_SYNC", value)
    assert settings.is_synced() == is_synced


def test_every_variable_of_the_table_is_in_the_module_and_the_other_way_round() -> None:
    """The table is what people look at."""
    told = set(_words(settings.__doc__ or ""))
    assert {settings.CONTROL_VARIABLE, settings.APP_VARIABLE, settings.BROKER_VARIABLE} <= told
    assert {settings.DATA_VARIABLE, settings.MAX_RUNNING_VARIABLE, settings.SYNC_VARIABLE} <= told
    from tapfs.bus.decide import Recovery

    assert {f"TAPFS_{name.upper()}" for name in Recovery.__dataclass_fields__} <= told


def test_the_defaults_of_recovery_are_those_of_the_table() -> None:
    from tapfs.bus.decide import Recovery

    for name in Recovery.__dataclass_fields__:
        assert f"| `TAPFS_{name.upper()}` | `{getattr(Recovery(), name):g}` |" in (settings.__doc__ or "")


def _words(text: str) -> list[str]:
    return [word for word in text.replace("`", " ").split() if word.startswith("TAPFS_")]
