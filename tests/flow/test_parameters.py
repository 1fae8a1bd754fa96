"""Laws of `tapfs.flow.parameters`."""

from __future__ import annotations

import ast
import csv
import io
import json
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, List, Literal, Optional  # noqa: UP035  old spellings must work too

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapfs.flow.parameters
from tapfs.errors import TapfsError
from tapfs.flow.parameters import (
    ArgumentsRefused,
    DeclarationRefused,
    Json,
    Masked,
    Parameter,
    Secret,
    check_arguments,
    load_arguments,
    masked,
    parameters_of,
    parse_arguments,
    usage,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Shade(StrEnum):
    RED = "red"


def people(
    path: Path,
    batch: int = 500,
    *,
    dry: bool = False,
    mode: Literal["a", "b"] = "a",
    tags: list[str] = [],  # noqa: B006
    limit: float | None = None,
    token: Secret = ...,
) -> NotImported:  # type: ignore[name-defined]  # noqa: F821
    """Import people from a CSV file."""


PEOPLE = parameters_of(people)
GIVEN = {"path": "data/people.csv", "token": "s3cr3t"}


def declared(annotation: object, **default: object) -> tuple[Parameter, ...]:
    """The parameters of a function with one, `x`, of that annotation."""

    def operation(x: object) -> None: ...

    operation.__annotations__ = {"x": annotation}
    operation.__defaults__ = tuple(default.values()) or None
    return parameters_of(operation)


def function_of(annotation: object) -> Callable[..., object]:
    def operation(x: object) -> object:
        return x

    operation.__annotations__ = {"x": annotation}
    return operation


def check(annotation: object, value: object) -> Json:
    return check_arguments("people", declared(annotation), {"x": value})["x"]


def parse(annotation: object, *texts: str) -> Json:
    return parse_arguments("people", declared(annotation), [f"x={text}" for text in texts])["x"]


def faults_of(call: Callable[..., object], *arguments: object) -> tuple[str, ...]:
    with pytest.raises(ArgumentsRefused) as refused:
        call(*arguments)
    return refused.value.faults


# Declaring


def test_a_signature_gives_its_parameters_in_order() -> None:
    assert [(p.name, p.kind, p.required, p.default, p.is_optional, p.is_masked) for p in PEOPLE] == [
        ("path", "path", True, None, False, False),
        ("batch", "integer", False, 500, False, False),
        ("dry", "yes/no", False, False, False, False),
        ("mode", "one of a|b", False, "a", False, False),
        ("tags", "list of text", False, [], False, False),
        ("limit", "number", False, None, True, False),
        ("token", "text", True, None, False, True),
    ]
    assert PEOPLE[3].choices == ("a", "b")
    assert PEOPLE[0].choices == ()
    assert parameters_of(people) == PEOPLE
    assert pickle.loads(pickle.dumps(PEOPLE)) == PEOPLE


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (str, "text"),
        ("int", "integer"),
        (Path, "path"),
        (date, "date"),
        (datetime, "date and time"),
        (Literal[1, 2], "one of 1|2"),
        (Colour, "one of red|blue"),
        (Level, "one of 1|2"),
        (list[Colour], "list of one of red|blue"),
        (List[int], "list of integer"),  # noqa: UP006
        (Optional[int], "integer"),  # noqa: UP045
        (list[float] | None, "list of number"),
        (Literal["a", None], "one of a"),
        (Annotated[int, "a note"], "integer"),
    ],
)
def test_a_supported_annotation_has_a_name_for_people(annotation: object, kind: str) -> None:
    assert declared(annotation)[0].kind == kind


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[str, Masked()],
        Annotated[str, Masked],
        Secret | None,
        Annotated[str | None, Masked()],
        list[Secret],
        Annotated[Annotated[int, Masked()], "a note"],
    ],
)
def test_a_mark_masks_wherever_it_stands(annotation: object) -> None:
    assert declared(annotation)[0].is_masked


def test_a_parameter_without_annotation_is_text() -> None:
    def operation(a, b=None, c="x"): ...  # type: ignore[no-untyped-def]

    assert [(p.kind, p.required, p.is_optional) for p in parameters_of(operation)] == [
        ("text", True, False),
        ("text", False, True),
        ("text", False, False),
    ]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (dict[str, int], "has the unsupported type dict[str, int]"),
        (int | str, "has the unsupported type int | str"),
        (list, "has the unsupported type list"),
        (List, "has the unsupported type List"),  # noqa: UP006
        (list[list[int]], "has the unsupported type list[list[int]]"),
        (list[int | None], "has the unsupported type list[int | None]"),
        (None, "has the unsupported type"),
        (timedelta, "has the unsupported type datetime.timedelta"),
        (Any, "has the unsupported type"),
        ("Nowhere", "has an annotation that cannot be resolved, 'Nowhere': name 'Nowhere' is not defined"),
        ("1 +", "has an annotation that cannot be resolved, '1 +'"),
        (Literal[True], "offers True, which is neither text nor an integer"),
        (Literal["1", 1], "offers a text and an integer that read the same"),
        (Literal["a\nb"], "offers 'a\\nb', which is not one line of text"),
        (Enum("Empty", []), "offers nothing to choose from"),
        (Enum("Odd", {"A": 0.5}), "offers 0.5, which is neither text nor an integer"),
    ],
)
def test_an_unsupported_annotation_is_refused_at_declaration(annotation: object, reason: str) -> None:
    with pytest.raises(DeclarationRefused) as refused:
        declared(annotation)
    (fault,) = refused.value.faults
    assert fault.startswith(f"parameter 'x' {reason}")
    assert "operation" in str(refused.value)
    assert "list[X]" in str(refused.value.hint)


def test_every_fault_of_a_declaration_is_told_at_once() -> None:
    def operation(a, /, b: bytes, c: int = "x", d: float = None, *args, e: Secret = 5, **kwargs):  # type: ignore[no-untyped-def, assignment]  # noqa: RUF013
        ...

    with pytest.raises(TypeError) as refused:
        parameters_of(operation)
    error = refused.value
    assert isinstance(error, DeclarationRefused)
    assert isinstance(error, TapfsError)
    assert error.faults == (
        "parameter 'a' is positional-only; arguments are given by name, one by one",
        "parameter 'b' has the unsupported type bytes",
        "parameter 'c' has a default that does not fit: 'c' must be an integer, not 'x'",
        "parameter 'd' has a default that does not fit: 'd' must be a number, not None",
        "parameter 'args' is variadic positional; arguments are given by name, one by one",
        "parameter 'e' has a default that does not fit: 'e' must be text",
        "parameter 'kwargs' is variadic keyword; arguments are given by name, one by one",
    )


# Checking Python and JSON values


def test_defaults_are_filled_in_in_the_order_of_the_parameters() -> None:
    arguments = check_arguments("people", PEOPLE, dict(reversed(GIVEN.items())))
    assert list(arguments.items()) == [
        ("path", "data/people.csv"),
        ("batch", 500),
        ("dry", False),
        ("mode", "a"),
        ("tags", []),
        ("limit", None),
        ("token", "s3cr3t"),
    ]


def test_a_default_list_is_a_new_one_each_time() -> None:
    first = check_arguments("people", PEOPLE, GIVEN)["tags"]
    assert isinstance(first, list)
    first.append("x")
    assert check_arguments("people", PEOPLE, GIVEN)["tags"] == []


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (Path, Path("a/b"), "a/b"),
        (Path, "./a//b", "./a//b"),
        (float, 5, 5.0),
        (int, Level.HIGH, 2),
        (str, Shade.RED, "red"),
        (Colour, Colour.RED, "red"),
        (Colour, "red", "red"),
        (Level, 2, 2),
        (date, date(2026, 11, 22), "2026-11-22"),
        (date, "2026-11-22", "2026-11-22"),
        (datetime, datetime(2026, 11, 22, 10, 15), "2026-11-22T10:15:00"),  # noqa: DTZ001  naive ones are taken too
        (datetime, "2026-11-22T10:15:07Z", "2026-11-22T10:15:07+00:00"),
        (datetime, "2026-11-22", "2026-11-22T00:00:00"),
        (list[int], (1, 2), [1, 2]),
        (list[int] | None, None, None),
        (int, 2**63 - 1, 2**63 - 1),
        (int, -(2**63), -(2**63)),
        (str, "", ""),
    ],
)
def test_a_fitting_value_becomes_json(annotation: object, value: object, stored: Json) -> None:
    checked = check(annotation, value)
    assert checked == stored
    assert type(checked) is type(stored)
    assert json.loads(json.dumps(checked)) == stored


@pytest.mark.parametrize(
    ("annotation", "value", "fault"),
    [
        (int, "12", "'x' must be an integer, not '12'"),
        (int, True, "'x' must be an integer, not True"),
        (int, 1.0, "'x' must be an integer, not 1.0"),
        (int, None, "'x' must be an integer, not None"),
        (int | None, "12", "'x' must be an integer or none, not '12'"),
        (int, 2**63, "'x' must be an integer within 64 bits, not 9223372036854775808"),
        (float, True, "'x' must be a number, not True"),
        (float, float("nan"), "'x' must be a finite number, not nan"),
        (float, 10**400, "'x' must be a finite number, not an integer of 1329 bits"),
        (bool, 1, "'x' must be true or false, not 1"),
        (bool, "yes", "'x' must be true or false, not 'yes'"),
        (str, 1, "'x' must be text, not 1"),
        (str, b"a", "'x' must be text, not b'a'"),
        (str, "a\nb", "'x' must be one line of text, not 'a\\nb'"),
        (str, "a\udcff", "'x' must be UTF-8 text, not 'a\\udcff'"),
        (Path, "a\udcff", "'x' must be UTF-8 text, not 'a\\udcff'"),
        (Path, "a\0b", "'x' must be a path, neither empty nor with NUL in it, not 'a\\x00b'"),
        (Path, "", "'x' must be a path, neither empty nor with NUL in it, not ''"),
        (Path, 1, "'x' must be a path, not 1"),
        (Literal["a", "b"], "c", "'x' must be one of a|b, not 'c'"),
        (Literal[1, 2], True, "'x' must be one of 1|2, not True"),
        (Literal[1, 2], "1", "'x' must be one of 1|2, not '1'"),
        (Colour, Shade.RED, "'x' must be one of red|blue, not <Shade.RED: 'red'>"),
        (date, "22.11.2026", "'x' must be a date like 2026-11-22, not '22.11.2026'"),
        (list[str], "ab", "'x' must be a list of text, not 'ab'"),
        (list[str] | None, 5, "'x' must be a list of text or none, not 5"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(annotation: object, value: object, fault: str) -> None:
    assert faults_of(check, annotation, value) == (fault,)


def test_an_integer_too_long_to_write_out_is_refused_by_its_length() -> None:
    assert faults_of(check, int, 10**5000) == ("'x' must be an integer within 64 bits, not an integer of 16610 bits",)


@pytest.mark.parametrize("annotation", [date, datetime])
@pytest.mark.parametrize("value", ["", "\udcff" * 10, "2026-11-22T10:\udcff", "2026-13-01", 20261122, None])
def test_what_is_no_date_is_refused(annotation: object, value: object) -> None:
    (fault,) = faults_of(check, annotation, value)
    assert "must be a date" in fault


def test_a_date_and_time_is_no_date_for_its_time_would_be_lost() -> None:
    (fault,) = faults_of(check, date, datetime(2026, 11, 22, tzinfo=UTC))
    assert fault.startswith("'x' must be a date like 2026-11-22, not datetime.datetime(2026, ")


def test_every_ill_item_of_a_list_is_told() -> None:
    assert faults_of(check, list[int], [1, "2", 3, None]) == (
        "item 2 of 'x' must be an integer, not '2'",
        "item 4 of 'x' must be an integer, not None",
    )


def test_all_faults_are_told_at_once() -> None:
    ill = {"pth": "x", "zebra": 1, "batch": "12", "dry": 1, 5: 6}
    with pytest.raises(ArgumentsRefused) as refused:
        check_arguments("people", PEOPLE, ill)  # type: ignore[arg-type]
    assert refused.value.operation == "people"
    assert str(refused.value) == (
        "cannot take the arguments of operation 'people':\n"
        "  'pth' is not a parameter; did you mean 'path'?\n"
        "  'zebra' is not a parameter\n"
        "  5 is not a parameter\n"
        "  'path' is missing\n"
        "  'batch' must be an integer, not '12'\n"
        "  'dry' must be true or false, not 1\n"
        "  'token' is missing"
    )


def test_one_fault_is_one_line_and_the_hint_shows_the_usage() -> None:
    with pytest.raises(ArgumentsRefused) as refused:
        check_arguments("tally", declared(int), {})
    assert str(refused.value) == "cannot take the arguments of operation 'tally': 'x' is missing"
    assert refused.value.hint == "usage: tapfs start tally x=INTEGER"


def test_a_refusal_survives_pickling() -> None:
    with pytest.raises(ArgumentsRefused) as refused:
        check_arguments("people", PEOPLE, {})
    copy = pickle.loads(pickle.dumps(refused.value))
    assert (str(copy), copy.operation, copy.faults, copy.hint) == (
        str(refused.value),
        "people",
        refused.value.faults,
        refused.value.hint,
    )


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


class TwoLines:
    def __repr__(self) -> str:
        return "a\nb\x1b[31m\udcff"


@pytest.mark.parametrize("value", ["x" * 10**6, Unshowable(), TwoLines(), [["x" * 999] * 999], {"k": 10**9999}])
def test_a_fault_is_one_short_printable_line_whatever_the_value(value: object) -> None:
    (fault,) = faults_of(check, int, value)
    assert len(fault) < 120
    assert fault.isprintable()


def test_a_long_unknown_name_is_refused_at_once_and_shortened() -> None:
    (fault,) = faults_of(check_arguments, "people", declared(int), {"x": 1, "y" * 10**6: 1})
    assert len(fault) < 120


# Parsing words


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "500", 500),
        (int, "-7", -7),
        (int, "007", 7),
        (int, "9223372036854775807", 2**63 - 1),
        (float, "500", 500.0),
        (float, "-1.5e-3", -0.0015),
        (float, ".5", 0.5),
        (str, "", ""),
        (str, "a=b", "a=b"),
        (str, "none", "none"),
        (str | None, "none", None),
        (int | None, "NULL", None),
        (float | None, "", None),
        (Literal["none", "all"] | None, "none", "none"),
        (Literal[1, 2], "2", 2),
        (Path, "./a//b", "./a//b"),
        (Colour, "blue", "blue"),
        (date, "2026-11-22", "2026-11-22"),
        (list[int], "1,2", [1, 2]),
        (list[str], "", []),
        (list[str], '""', [""]),
        (list[str], '"a,b",c', ["a,b", "c"]),
        (list[str], 'say "hi"', ['say "hi"']),
        (list[str] | None, "", None),
        (list[str] | None, '"none"', ["none"]),
    ],
)
def test_text_is_converted_by_the_type(annotation: object, text: str, value: Json) -> None:
    parsed = parse(annotation, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("yes", ["yes", "true", "1", "on", "YES", "True"])
@pytest.mark.parametrize("no", ["no", "false", "0", "off", "NO", "False"])
def test_yes_and_no_may_be_said_in_many_ways(yes: str, no: str) -> None:
    assert (parse(bool, yes), parse(bool, no)) == (True, False)


def test_a_list_may_repeat_its_key() -> None:
    assert parse(list[int], "1,2", "3", "", "4") == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("annotation", "text", "wanted"),
    [
        *[(int, text, "an integer") for text in ("", " 1", "1 ", "1_000", "1.0", "+1", "0x1", "٣", "1\n", "--1")],
        *[(int, text, "an integer within 64 bits") for text in ("9223372036854775808", "9" * 5000)],
        *[(float, text, "a number") for text in ("nan", "inf", "-Infinity", "1_0.0", " 1", "1,5", "", ".", "e5")],
        (float, "1e999", "a finite number"),
        (bool, "maybe", "yes or no"),
        (bool | None, "maybe", "yes or no or none"),
        (str, "a\rb", "one line of text"),
        (str, "\udcc3", "UTF-8 text"),
        (list[str], "a\nb", "one line of text"),
        (list[str], "\udcc3", "UTF-8 text"),
        (list[str], '"a"b', "a comma separated list, with items that hold a comma or quote in double quotes"),
        (list[str], '"a', "a comma separated list, with items that hold a comma or quote in double quotes"),
    ],
)
def test_text_that_does_not_fit_is_refused(annotation: object, text: str, wanted: str) -> None:
    (fault,) = faults_of(parse, annotation, text)
    assert fault.startswith(f"'x' must be {wanted}, not ")


def test_all_faults_of_the_words_are_told_at_once() -> None:
    parameters = parameters_of(people)[:-1]
    words = ["dry", "a-b=1", "=5", "pathe=x", "batch=1", "batch=2", "tags=a", "tags=b", "limit=x", "\udcff=1"]
    assert faults_of(parse_arguments, "people", parameters, words) == (
        "'dry' is not KEY=VALUE; did you mean 'dry=YES|NO'?",
        "'a-b' is not a parameter",
        "'' is not a parameter",
        "'pathe' is not a parameter; did you mean 'path'?",
        "'\\udcff' is not a parameter",
        "'path' is missing",
        "'batch' is given 2 times",
        "'limit' must be a number or none, not 'x'",
    )


def test_words_and_values_give_the_same_arguments() -> None:
    words = ["token=s3cr3t", "path=p", "batch=5", "dry=yes", "mode=b", "tags=a,b", "limit=1"]
    values = {
        "path": Path("p"),
        "batch": 5,
        "dry": True,
        "mode": "b",
        "tags": ["a", "b"],
        "limit": 1,
        "token": "s3cr3t",
    }
    assert parse_arguments("people", PEOPLE, words) == check_arguments("people", PEOPLE, values)


# Masking


SECRET = "hunter2=="


def secret_operation(
    number: Annotated[int, Masked()],
    codes: Annotated[list[int], Masked()],
    pick: Annotated[Literal["a"] | None, Masked()],
    text: Secret,
    day: Annotated[date, Masked()],
) -> None: ...


@pytest.mark.parametrize(
    "words",
    [
        [f"number={SECRET}", f"codes=1,{SECRET}", f"pick={SECRET}", f"text=\n{SECRET}", f"day={SECRET}"],
        [f'codes="{SECRET}"x', f"codes={SECRET}", f"text={SECRET}", f"text={SECRET}"],
        ["text=", SECRET, "hunter2", f"txt={SECRET}", f"{SECRET}={SECRET}", f"hunter2-{SECRET}"],
    ],
)
def test_a_masked_value_is_in_no_fault_of_words(words: list[str]) -> None:
    with pytest.raises(ArgumentsRefused) as refused:
        parse_arguments("op", parameters_of(secret_operation), words)
    told = "".join(traceback.format_exception(refused.value, chain=True)[-1:]) + repr(refused.value.__dict__)
    assert "hunter2" not in told
    assert refused.value.__context__ is None
    assert refused.value.__cause__ is None


def test_a_masked_value_is_in_no_fault_of_values() -> None:
    values = {"number": SECRET, "codes": [SECRET, {SECRET: SECRET}], "pick": SECRET, "text": [SECRET], "day": SECRET}
    faults = faults_of(check_arguments, "op", parameters_of(secret_operation), values)
    assert len(faults) == 6
    assert "hunter2" not in "".join(faults)


def test_a_word_that_fits_nowhere_is_told_by_its_position_when_there_are_masked_parameters() -> None:
    faults = faults_of(parse_arguments, "people", PEOPLE, ["path=p", "tokn=s3cr3t", "s3cr3t"])
    assert faults[:2] == ("word 2 is not a parameter; did you mean 'token'?", "word 3 is not KEY=VALUE")


def test_a_masked_default_is_not_in_the_repr_of_its_parameter() -> None:
    assert SECRET not in repr(declared(Secret, x=SECRET))


def test_masked_arguments_are_shown_as_stars() -> None:
    arguments = check_arguments("people", PEOPLE, GIVEN)
    shown = masked(arguments, PEOPLE)
    assert shown == {**arguments, "token": "***"}
    assert list(shown) == list(arguments)
    assert arguments["token"] == "s3cr3t"
    assert masked({"token": None}, PEOPLE) == {"token": "***"}
    assert masked({"gone": 1}, PEOPLE) == {"gone": 1}


# Usage


def test_usage_names_every_parameter_and_puts_what_may_be_left_out_in_brackets() -> None:
    assert usage("people", PEOPLE) == (
        "tapfs start people path=PATH [batch=INTEGER] [dry=YES|NO] [mode=a|b] [tags=TEXT,...] [limit=NUMBER] token=TEXT"
    )
    assert usage("nightly", ()) == "tapfs start nightly"


# Loading, and the round trips


def test_a_function_is_called_with_what_it_is_annotated_with() -> None:
    def operation(path: Path, colours: list[Colour], level: Level, since: datetime, ratio: float = 1) -> None: ...

    stored: dict[str, Json] = {"path": "p", "colours": ["red"], "level": 2, "since": "2026-11-22T10:15:07+00:00"}
    loaded = load_arguments(operation, stored)
    assert loaded == {
        "path": Path("p"),
        "colours": [Colour.RED],
        "level": Level.HIGH,
        "since": datetime(2026, 11, 22, 10, 15, 7, tzinfo=UTC),
        "ratio": 1.0,
    }
    assert type(loaded["level"]) is Level
    assert type(loaded["ratio"]) is float


def test_stored_arguments_that_no_longer_fit_the_function_are_refused() -> None:
    assert faults_of(load_arguments, function_of(int), {"x": "edited", "gone": 1}) == (
        "'gone' is not a parameter",
        "'x' must be an integer, not 'edited'",
    )


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: LINES,
    Path: LINES.filter(lambda text: text != "" and "\0" not in text).map(Path),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.none() | OFFSETS),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Literal["none", "a,b", 3]: st.sampled_from(["none", "a,b", 3]),
}
TYPED: st.SearchStrategy[tuple[Any, Any]] = st.one_of(
    *(st.tuples(st.just(kind), values) for kind, values in VALUES.items()),
    *(st.tuples(st.just(list[kind]), st.lists(values)) for kind, values in VALUES.items()),  # type: ignore[valid-type]
    *(st.tuples(st.just(kind | None), values | st.none()) for kind, values in VALUES.items()),
)


def formatted(value: object) -> str:
    """How a person writes the value behind `KEY=`."""
    if isinstance(value, list):
        line = io.StringIO()
        csv.writer(line, lineterminator="", quoting=csv.QUOTE_ALL).writerow([formatted(item) for item in value])
        return line.getvalue()
    if isinstance(value, Enum):
        return str(value.value)
    return value.isoformat() if isinstance(value, date) else str(value)


@given(TYPED)
def test_loading_what_was_checked_gives_the_value_back(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    function = function_of(annotation)
    checked = check_arguments("op", parameters_of(function), {"x": value})
    from_disk = json.loads(json.dumps(checked))
    assert from_disk == checked
    loaded = load_arguments(function, from_disk)["x"]
    assert loaded == value
    assert type(loaded) is type(value)


@given(TYPED)
def test_parsing_what_a_person_writes_gives_what_checking_gives(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    parameters = declared(annotation)
    text = formatted(value)
    # Of an optional text or path these words are None: the price of being able to say none.
    if parameters[0].is_optional and text.lower() in ("", "none", "null") and not parameters[0].choices:
        value = None
    assert parse_arguments("op", parameters, [f"x={text}"]) == check_arguments("op", parameters, {"x": value})


@given(TYPED)
def test_checking_again_changes_nothing(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    once = check(annotation, value)
    again = check(annotation, once)
    assert again == once
    assert type(again) is type(once)


@given(st.sampled_from(list(VALUES)), st.lists(st.text()))
def test_any_words_are_taken_or_refused_and_nothing_else(annotation: object, words: list[str]) -> None:
    faults: tuple[str, ...] = ()
    try:
        parse_arguments("op", declared(annotation), [*words, *(f"x={word}" for word in words)])
    except ArgumentsRefused as refused:
        faults = refused.faults
    assert all(fault.isprintable() for fault in faults)


def test_nothing_here_imports_celery() -> None:
    for source in Path(tapfs.flow.parameters.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("celery")]
