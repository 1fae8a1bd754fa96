"""Clauses and callbacks by name."""

import functools
import os.path
from typing import Any

import pytest
from celery import Celery

from tapfs.errors import ResultUnstorable, TapfsError
from tapfs.flow.references import call, reference_to


def is_large(last: int, limit: int = 10) -> bool:
    return last > limit


class Limits:
    @staticmethod
    def reached(last: int) -> bool:
        return last > 3

    def method(self, last: int) -> bool:
        return last > 4


def test_a_function_is_stored_by_its_name_and_called_by_it(app: Celery) -> None:
    reference = reference_to(is_large, "clause")
    assert reference == f"{__name__}:is_large"
    assert call(app, reference, 11) is True
    assert call(app, reference, 9) is False


def test_a_function_of_a_class_or_of_another_module_is_found_again(app: Celery) -> None:
    reference = reference_to(Limits.reached, "clause")
    assert reference == f"{__name__}:Limits.reached"
    assert call(app, reference, 4) is True
    assert call(app, reference_to(os.path.exists, "clause"), "/") is True


def test_a_signature_is_stored_with_its_own_arguments_which_come_after_the_given_ones(app: Celery) -> None:
    calls = []

    @app.task(name="ask")
    def ask(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "yes"

    reference = reference_to(ask.s(1, [2], limit=3), "clause")
    assert reference == {"task": "ask", "args": [1, [2]], "kwargs": {"limit": 3}}
    assert call(app, reference, "last") == "yes"
    assert calls == [(("last", 1, [2]), {"limit": 3})]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(lambda _: True, id="lambda"),
        pytest.param(Limits().method, id="bound method"),
        pytest.param(functools.partial(is_large, limit=1), id="partial"),
        pytest.param(42, id="number"),
        pytest.param("os.path:exists", id="text"),
    ],
)
def test_what_a_worker_could_not_find_again_is_refused(target: Any) -> None:
    with pytest.raises(TapfsError, match="cannot be found again by a worker") as caught:
        reference_to(target, "clause")
    assert str(caught.value).startswith("the clause ")
    assert caught.value.hint == "use a function at the top level of a module, or a signature"


def test_a_function_inside_a_function_is_refused() -> None:
    def inner(_: Any) -> bool:
        return True

    with pytest.raises(TapfsError, match="cannot be found again"):
        reference_to(inner, "callback")


def test_arguments_of_a_signature_that_cannot_be_stored_are_refused(app: Celery) -> None:
    @app.task(name="ask")
    def ask(last: Any, own: Any) -> Any:
        return own

    with pytest.raises(ResultUnstorable, match="cannot store the clause's arguments"):
        reference_to(ask.s({1}), "clause")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("no_such_module:f", "'no_such_module:f' cannot be found: No module named 'no_such_module'"),
        ("os.path:nope", "has no attribute 'nope'"),
        (":f", "cannot be found"),
        ({"task": "gone", "args": [], "kwargs": {}}, "this worker knows no task 'gone'"),
    ],
)
def test_a_reference_that_leads_nowhere_any_more_says_so(app: Celery, reference: Any, why: str) -> None:
    with pytest.raises(TapfsError) as caught:
        call(app, reference, None)
    assert why in str(caught.value)
