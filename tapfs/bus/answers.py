"""Whether an answer fits what a gate asks for. Pure: nothing is read or written here.

An answer is an object with one member a field: `{"ok": true}`. A field that is not required may be left out, and is
then its default; where the default is null, it may be null. Beside the fields an answer may say in `answered_by` who
gives it. What a field may hold stands in the plan:

```
{"type": "boolean", "required": true, "choices": null, "default": null, "description": null}
```
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date

from tapfs.bus.fields import Faulty, Field, Json, check_object, near, shown

#: The member of an answer that says who gives it; no field may have that name.
ANSWERED_BY = "answered_by"
#: The most characters of who answers.
LONGEST_WHO = 200
#: The most characters of a text, and of all of an answer, in a line of the journal.
_LONGEST_TOLD, _LONGEST_ANSWER_TOLD = 60, 4096

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INTEGER_LIMIT = 2**63
_YES_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_NONE = ("", "none", "null")

#: Each type a field can have: what JSON holds for it, and what stands for it on a command line.
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "boolean": ((bool,), "yes|no"),
    "integer": ((int,), "INTEGER"),
    "number": ((float, int), "NUMBER"),
    "string": ((str,), "TEXT"),
    "date": ((str,), "YYYY-MM-DD"),
}
_EXAMPLES: dict[str, Json] = {"boolean": True, "integer": 1, "number": 0.5, "string": "...", "date": "2026-11-22"}

#: Each field's declaration, by its name.
Fields = dict[str, dict[str, Json]]


def check_answer(fields: Fields, found: Mapping[str, Json]) -> dict[str, Json]:
    """Check an answer, without `answered_by`, and fill in what it leaves out.

    Raises:
        Faulty: with every fault: what is missing, unknown, or does not fit.
    """
    return _filled(fields, found, [])


def parse_answer(fields: Fields, words: Iterable[str]) -> dict[str, Json]:
    """Check an answer that comes as the words `KEY=VALUE` of a command line.

    yes/no, true/false, on/off and 1/0 are booleans; none, null and nothing are null for a field that may be it.

    Raises:
        Faulty: as `check_answer` does, and where a word is not KEY=VALUE or a key is there twice.
    """
    given: dict[str, Json] = {}
    faults = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            faults.append(f"{shown(word)} is not KEY=VALUE{near(word, fields)}")
        elif name in given:
            faults.append(f"field '{name}' is given twice")
        else:
            given[name] = _parsed(text, fields[name]) if name in fields else text
    return _filled(fields, given, faults)


def signed_answer(found: Mapping[str, Json], fields: Fields, unsigned: str) -> tuple[dict[str, Json], str]:
    """Check an answer as it stands in `answer.json`; returns it without its signature, and who gave it.

    Raises:
        Faulty: with every fault.
    """
    given = dict(found)
    who = given.pop(ANSWERED_BY, None)
    faults = []
    if who is not None and not (isinstance(who, str) and 0 < len(who) <= LONGEST_WHO and who.isprintable()):
        faults.append(f"field '{ANSWERED_BY}': {shown(who)} is no name")
    answer = _filled(fields, given, faults)
    return answer, who or unsigned


def example_of(fields: Fields) -> dict[str, Json]:
    """An answer that has a value of the right kind for each field that must be there."""
    return {
        name: one["choices"][0] if one["choices"] else _EXAMPLES[one["type"]]
        for name, one in fields.items()
        if one["required"]
    }


def in_short(answer: Mapping[str, Json]) -> dict[str, Json]:
    """An answer for a line of the journal: long texts are cut."""
    cut = {
        name: value[:_LONGEST_TOLD] + "..." if isinstance(value, str) and len(value) > _LONGEST_TOLD else value
        for name, value in answer.items()
    }
    return cut if len(json.dumps(cut)) <= _LONGEST_ANSWER_TOLD else dict.fromkeys(answer, "...")


def _filled(fields: Fields, found: Mapping[str, Json], faults: list[str]) -> dict[str, Json]:
    """Fill in defaults and raise all faults, those found before first."""
    known = {name: Field(_kinds_of(one), one["default"], one["required"]) for name, one in fields.items()}
    values: dict[str, Json] = {}
    try:
        values = check_object(found, known)
    except Faulty as error:
        faults = [*faults, *error.faults]
    for name, one in fields.items():
        fault = _unfit(found[name], one) if name in found else None
        if fault:
            faults = [*faults, f"field '{name}': {fault}"]
    if faults:
        raise Faulty(faults)
    return {name: _plain(value, fields[name]) for name, value in values.items()}


def _plain(value: Json, one: Mapping[str, Json]) -> Json:
    return float(value) if one["type"] == "number" and type(value) is int else value


def _may_be_null(one: Mapping[str, Json]) -> bool:
    return not one["required"] and one["default"] is None


def _kinds_of(one: Mapping[str, Json]) -> tuple[type, ...]:
    return TYPES[one["type"]][0] + ((type(None),) if _may_be_null(one) else ())


def fault_of(value: Json, one: Mapping[str, Json]) -> str | None:
    """What keeps a value from being one of that field, in the field's declaration."""
    if type(value) not in TYPES[one["type"]][0]:
        return f"{shown(value)} is no {one['type']}"
    return _unfit(value, one)


def _unfit(value: Json, one: Mapping[str, Json]) -> str | None:
    """What is wrong with a value beside its type."""
    if type(value) in (int, float) and one["type"] in ("integer", "number"):
        if not math.isfinite(value) if type(value) is float else not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
            return f"{shown(value)[:60]} is beyond what a number can be here"
    elif isinstance(value, str) and one["type"] == "date" and not _is_date(value):
        return f"{shown(value)} is no date like 2026-11-22"
    choices = one["choices"]
    if choices is not None and type(value) in TYPES[one["type"]][0] and value not in choices:
        texts = [str(choice) for choice in choices]
        return f"{shown(value)} is none of {', '.join(texts)}{near(str(value), texts)}"
    return None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _parsed(text: str, one: Mapping[str, Json]) -> Json:
    """What a word stands for; the text itself where it does not fit, so that the check tells of it."""
    kind = one["type"]
    if _may_be_null(one) and text.lower() in _NONE and text not in (one["choices"] or ()):
        return None
    if kind == "boolean":
        return _YES_NO.get(text.lower(), text)
    if kind == "integer":
        return int(text) if _INTEGER.fullmatch(text) else text
    if kind == "number":
        try:
            return float(text)
        except ValueError:
            return text
    return text
