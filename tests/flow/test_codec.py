"""Arguments and results between Celery and the directory."""

import json
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.flows import Post
from tapfs import Bus, OperationFailed, tappable
from tapfs.errors import ResultUnstorable
from tapfs.flow.codec import from_json, is_faithful, is_plain, to_json

ID = UUID("6f3b1c62-2f0e-4d49-9d4d-0d8b8e6f5a11")

KEPT = [
    datetime(2026, 11, 22, 10, 15, 2, 120_000, tzinfo=UTC),
    datetime(2026, 11, 22, 10, 15, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2026, 11, 22, 10, 15),  # noqa: DTZ001
    date(2026, 11, 22),
    time(10, 15, 2),
    ID,
    Decimal("12.340"),
    b"plain",
    b"\xff\x00",
    "",
    "naïve 日本 \U0001f600 \u2028 \x00",
    "not-utf-8-\udce9.csv",
    None,
    True,
    -1,
    2**70,
    1.5,
    [],
    {},
    [[ID], {"when": [date(2026, 1, 1)], "rows": [[1, None], []]}],
    {"__type__": "x"},
]


@pytest.mark.parametrize("value", KEPT, ids=repr)
def test_what_celerys_json_carries_comes_back_as_it_was(value: Any) -> None:
    stored = to_json(value, "it")
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    back = from_json(stored)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", KEPT, ids=repr)
def test_a_step_gets_the_types_that_the_step_before_returned(value: Any, app: Any, bus: Bus, post: Post) -> None:
    seen: list[Any] = []

    @app.task(name="give")
    def give() -> Any:
        return [value]

    @app.task(name="take")
    def take(given: Any, own: Any, *, named: Any) -> None:
        seen.extend([given, own, named])

    tappable(give.s() | take.s(value, named={"a": value}), bus=bus).delay()
    post.deliver_all()
    assert seen == [[value], value, {"a": value}]
    assert type(seen[0][0]) is type(seen[1]) is type(value)


@pytest.mark.parametrize(
    ("value", "back"), [((1, (2, 3)), [1, [2, 3]]), ({1: "a"}, {"1": "a"}), (Counter(a=2), {"a": 2}), (True, True)]
)
def test_what_json_has_no_word_for_becomes_what_celerys_json_makes_of_it(value: Any, back: Any) -> None:
    assert from_json(to_json(value, "it")) == back


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)

UNSTORABLE = [
    pytest.param({1, 2}, "set is not JSON serializable", id="set"),
    pytest.param(object(), "object is not JSON serializable", id="object"),
    pytest.param(float("nan"), "not JSON compliant", id="NaN"),
    pytest.param([float("inf")], "not JSON compliant", id="infinity"),
    pytest.param({(1, 2): 3}, "keys must be str", id="tuple key"),
    pytest.param(CIRCLE, "Circular reference", id="circle"),
    pytest.param(Broken(), "Broken is not JSON serializable", id="without words"),
    pytest.param(iter([]), "is not JSON serializable", id="iterator"),
    pytest.param(["x" * 100_000, {1}], "set is not JSON serializable", id="large"),
]


@pytest.mark.parametrize(("value", "why"), UNSTORABLE)
def test_what_cannot_be_stored_is_refused_with_what_it_is(value: Any, why: str) -> None:
    with pytest.raises(ResultUnstorable) as caught:
        to_json(value, "the result of step 0002-save")
    text = str(caught.value)
    assert text.startswith("cannot store the result of step 0002-save: ")
    assert why in text
    assert len(text) < 400
    assert caught.value.hint is not None


@pytest.mark.parametrize(("value", "why"), UNSTORABLE)
def test_an_unstorable_result_fails_the_operation_and_names_the_step(
    value: Any, why: str, app: Any, bus: Bus, post: Post
) -> None:
    @app.task(name="shop.save")
    def save() -> Any:
        return value

    operation = tappable(save.si() | save.si(), bus=bus).delay()
    post.deliver_all()
    with pytest.raises(OperationFailed, match=r"cannot store the result of step 0001-save: .*") as caught:
        operation.get()
    assert why in str(caught.value)
    assert not (operation.path / "steps" / "0001-save.json").exists()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_all_plain_json_is_faithful_and_comes_back(value: Any) -> None:
    assert is_faithful(value)
    if not (isinstance(value, dict) and value.keys() == {"__type__", "__value__"}):
        assert from_json(to_json(value, "it")) == value


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, [{"a": {2}}], float("nan"), b"", Counter(), [Counter()], {"a": Counter()}, CIRCLE]
)
def test_what_json_gives_back_as_something_else_is_not_faithful(value: Any) -> None:
    assert not is_faithful(value)


def test_only_dicts_and_lists_themselves_are_plain() -> None:
    class Rows(list[int]):
        pass

    assert is_plain({"a": [{}, [], 1, "x"]})
    assert not is_plain(Rows())
    assert not is_plain([{"a": Rows()}])


def test_five_megabytes_of_result_go_through_the_directory(app: Any, bus: Bus, post: Post) -> None:
    lengths = []

    @app.task(name="make")
    def make() -> str:
        return "é" * 2_500_000

    @app.task(name="measure")
    def measure(text: str) -> int:
        lengths.append(len(text))
        return len(text)

    operation = tappable(make.s() | measure.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 2_500_000
    assert lengths == [2_500_000]
    assert (operation.path / "steps" / "0001-make.json").stat().st_size > 5_000_000
