"""Reading JSON objects that people can edit: every fault found, each named with its line or its field.

`json` alone takes the last of two equal keys, and NaN, without a word; this module refuses both. It knows nothing of
what any file means: that is in `records`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Anything that JSON can hold.
Json = Any


class Faulty(ValueError):
    """A text is not the object it should be; `faults` says everything that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Field:
    """What one field may hold.

    Attributes:
        kinds: the Python types allowed; `bool` is no `int` here.
        default: its value when absent.
        required: whether absence is a fault.
        choices: the only values allowed, if there are only some.
        longest: the most characters of a text.
    """

    kinds: tuple[type, ...]
    default: Json = None
    required: bool = False
    choices: tuple[str, ...] = ()
    longest: int | None = None


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}
_NAMES |= {list: "a list", type(None): "null"}


def parse_object(content: bytes) -> dict[str, Json]:
    """Parse one JSON object in UTF-8; a byte order mark is taken, duplicate keys and NaN are not.

    Raises:
        Faulty: it is empty, not UTF-8, not JSON, not an object, or has a key twice.
    """
    duplicates: list[str] = []

    def pairs(items: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(items)
        if len(found) != len(items):
            keys = [key for key, _ in items]
            duplicates.extend(sorted({f"field '{key}' stands there twice" for key in keys if keys.count(key) > 1}))
        return found

    if not content.strip(b" \t\r\n\0"):
        raise Faulty(["it is empty" if not content else "it holds nothing but blanks"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Faulty([f"line {line}: byte {error.start} is not UTF-8 text"]) from None
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Faulty([f"line {error.lineno}, column {error.colno}: {_plain(error.msg)}"]) from None
    except (ValueError, RecursionError) as error:
        raise Faulty([_plain(str(error))]) from None
    if not isinstance(value, dict):
        raise Faulty([f"it holds {_kind_of(value)} where an object {{...}} is needed"])
    if duplicates:
        raise Faulty(duplicates)
    return value


def check_object(found: Mapping[str, Json], fields: Mapping[str, Field], *, strict: bool = True) -> dict[str, Json]:
    """Check an object's fields and fill in what is absent.

    Args:
        found: the object.
        fields: what each field may hold.
        strict: refuse unknown fields; else leave them out.

    Raises:
        Faulty: with every fault.
    """
    faults: list[str] = []
    values: dict[str, Json] = {}
    if strict:
        faults.extend(_unknown(key, fields) for key in found if key not in fields)
    for name, field in fields.items():
        if name not in found:
            values[name] = field.default
            if field.required:
                faults.append(f"field '{name}' is missing")
            continue
        values[name] = found[name]
        fault = _fault_of(found[name], field)
        if fault:
            faults.append(f"field '{name}': {fault}")
    if faults:
        raise Faulty(faults)
    return values


def encode(value: Json) -> bytes:
    """Write a record as people see it: indented, UTF-8, one newline at the end."""
    return to_utf8(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def to_utf8(text: str) -> bytes:
    """Encode a JSON text, whatever is in it.

    A lone surrogate (a file name that is not UTF-8, or an editor's `\\ud800`) has no UTF-8; Python's backslash form of
    it is its JSON escape.
    """
    return text.encode("utf-8", "backslashreplace")


def near(word: str, words: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str:
    """Return ` (did you mean 'x'?)` where one of `words` is close to `word`, else an empty text."""
    import difflib  # 3 ms, only for who misspells

    close = difflib.get_close_matches(word.lower(), list(words), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def shown(value: Json) -> str:
    """Write a value for an error text, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(key: str, fields: Mapping[str, Field]) -> str:
    return f"field {shown(key)} is unknown{near(key, fields)}"


def _fault_of(value: Json, field: Field) -> str | None:
    kind = type(value)
    allowed = field.kinds + ((int,) if float in field.kinds else ())
    if kind not in allowed:
        wanted = " or ".join(_NAMES[one] for one in field.kinds)
        return f"{shown(value)} is {_kind_of(value)}, not {wanted}"
    if field.choices and value is not None and value not in field.choices:
        return f"{shown(value)} is none of {', '.join(field.choices)}{near(str(value), field.choices)}"
    if field.longest is not None and isinstance(value, str) and len(value) > field.longest:
        return f"it has {len(value):,} characters, more than {field.longest:,}"
    return None


def _kind_of(value: Json) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _plain(message: str) -> str:
    """Turn `json`'s message into one that starts small and blames nobody."""
    return message[:1].lower() + message[1:]


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"the number {name} is not JSON")
