"""Arguments and results between Celery and the directory: what Celery's JSON can carry, the directory can hold.

Dates, UUIDs, decimals and bytes are written as kombu writes them (`{"__type__": ..., "__value__": ...}`), so a step
gets the same types that it would get through a broker.
"""

from __future__ import annotations

import json
import reprlib

from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads

from tapfs.bus.fields import Json
from tapfs.errors import ResultUnstorable


def to_json(value: object, what: str) -> Json:
    """Turn a value into plain JSON.

    Args:
        value: an argument or a result.
        what: what it is, for the error text.

    Raises:
        ResultUnstorable: JSON cannot hold it.
    """
    try:
        return json.loads(dumps(value, allow_nan=False))
    except (TypeError, ValueError, EncodeError, RecursionError) as error:
        raise ResultUnstorable(
            f"cannot store {what}: {error} ({reprlib.repr(value)})",
            hint="use texts, numbers, booleans, None, lists, dicts, dates, UUIDs, decimals or bytes",
        ) from None


def from_json(value: Json) -> Json:
    """Turn what `to_json` made back into what it was."""
    return loads(json.dumps(value)) if isinstance(value, (dict, list)) else value


def is_faithful(value: object) -> bool:
    """Say whether plain JSON gives the value back as it is: no tuples, no keys but texts, no NaN, no Counter."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value) and is_plain(value)
    except (TypeError, ValueError, RecursionError):
        return False


def is_plain(value: object) -> bool:
    """Say whether all dicts and lists in it are just that: a `Counter` equals a dict, but comes back as one."""
    if isinstance(value, dict):
        return type(value) is dict and all(is_plain(one) for one in value.values() if isinstance(one, (dict, list)))
    if isinstance(value, list):
        return type(value) is list and all(is_plain(one) for one in value if isinstance(one, (dict, list)))
    return True
