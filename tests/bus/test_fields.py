"""Reading JSON that people can edit: every fault, each with its line or field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapfs.bus.fields import Faulty, Field, check_object, encode, near, parse_object, shown

FIELDS = {
    "want": Field((str,), required=True, choices=("run", "pause")),
    "reason": Field((str, type(None)), longest=10),
    "count": Field((int,), default=0),
    "share": Field((float,), default=0.0),
    "is_open": Field((bool,), default=False),
    "parts": Field((list,), default=[]),
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def faults_of(found: dict[str, object], *, strict: bool = True) -> tuple[str, ...]:
    with pytest.raises(Faulty) as caught:
        check_object(found, FIELDS, strict=strict)
    return caught.value.faults


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it is empty"),
        (b" \r\n\t\n", "it holds nothing but blanks"),
        (b"\0\0\0\0", "it holds nothing but blanks"),
        (b'{"a": 1,\n"b": \xff}', "line 2: byte 14 is not UTF-8 text"),
        (b'{"want": "run",\n "reason": }', "line 2, column 12: expecting value"),
        (b'{"want": "run"', "line 1, column 15: expecting ',' delimiter"),
        (b"[1]", "it holds a list where an object {...} is needed"),
        (b'"run"', "it holds a text where an object {...} is needed"),
        (b"null", "it holds null where an object {...} is needed"),
        (b'{"a": NaN}', "the number NaN is not JSON"),
        (b'{"a": -Infinity}', "the number -Infinity is not JSON"),
        (b'{"a": 1, "a": 2, "b": {"c": 1, "c": 1}}', "field 'c' stands there twice; field 'a' stands there twice"),
        (b'{"a": 1} {"a": 2}', "line 1, column 10: extra data"),
    ],
)
def test_a_text_that_is_no_object_is_refused_with_its_place(content: bytes, fault: str) -> None:
    with pytest.raises(Faulty) as caught:
        parse_object(content)
    assert "; ".join(caught.value.faults) == fault


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": ' * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_text_that_json_cannot_hold_is_a_fault_and_no_crash(content: bytes) -> None:
    with pytest.raises(Faulty):
        parse_object(content)


def test_a_byte_order_mark_is_taken() -> None:
    assert parse_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_all_faults_of_an_object_are_named_at_once() -> None:
    found = {"wnat": "run", "reason": 5, "count": "many", "is_open": 1}
    assert faults_of(found) == (
        "field \"wnat\" is unknown (did you mean 'want'?)",
        "field 'want' is missing",
        "field 'reason': 5 is a whole number, not a text or null",
        "field 'count': \"many\" is a text, not a whole number",
        "field 'is_open': 1 is a whole number, not true or false",
    )


def test_a_truth_value_is_no_number() -> None:
    assert faults_of({"want": "run", "count": True, "share": False}) == (
        "field 'count': true is true or false, not a whole number",
        "field 'share': false is true or false, not a number",
    )


def test_a_whole_number_is_a_number_and_a_number_is_no_whole_number() -> None:
    assert check_object({"want": "run", "share": 3}, FIELDS)["share"] == 3
    assert faults_of({"want": "run", "count": 3.0}) == ("field 'count': 3.0 is a number, not a whole number",)


def test_a_word_that_is_no_choice_is_refused_with_the_choices_and_a_near_one() -> None:
    assert faults_of({"want": "stop"}) == ("field 'want': \"stop\" is none of run, pause",)
    assert faults_of({"want": "Pause"}) == ("field 'want': \"Pause\" is none of run, pause (did you mean 'pause'?)",)


def test_a_text_that_is_too_long_is_refused_with_its_length() -> None:
    assert faults_of({"want": "run", "reason": "x" * 11}) == ("field 'reason': it has 11 characters, more than 10",)


def test_an_unknown_field_is_left_out_where_a_later_version_may_have_written_it() -> None:
    assert "later" not in check_object({"want": "run", "later": 1}, FIELDS, strict=False)


def test_absent_fields_get_their_defaults() -> None:
    values = check_object({"want": "run"}, FIELDS)
    assert values == {"want": "run", "reason": None, "count": 0, "share": 0.0, "is_open": False, "parts": []}


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_encoded_is_parsed_the_same(value: dict[str, object]) -> None:
    assert parse_object(encode(value)) == value


def test_a_lone_surrogate_is_written_as_valid_json_and_read_the_same() -> None:
    value = {"name": "caf\udce9"}  # what os.listdir gives for a name that is not UTF-8
    assert json.loads(encode(value).decode("utf-8")) == value
    assert parse_object(encode(value)) == value


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"a": float("nan")})


def test_a_near_word_is_found_whatever_its_case() -> None:
    assert near("CANCLE", ("cancel", "pause")) == " (did you mean 'cancel'?)"
    assert near("zebra", ("cancel", "pause")) == ""


def test_a_long_value_is_shown_shortened() -> None:
    assert shown("x" * 100) == '"' + "x" * 56 + "..."
    assert shown({1, 2}.__class__) == "\"<class 'set'>\""
