"""One message: its file's name and its text.

The grammar of both is in the package's docstring. Reading judges everything kombu would choke on later, so that a
broken message never reaches the worker's loop.
"""

import itertools
import os
import re
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads

from tapfs.flow.broker.files import MAX_BYTES, Unreadable, read_whole

_NAME = re.compile(r"(?P<first>\d-\d{20}-\d{8,}-\d+-[0-9a-f]{8})(\.(?P<redeliveries>\d{1,9}))?\.json")
_MAX_PRIORITY = 9
_puts = itertools.count(1)


def name_message(priority: int) -> str:
    """Return a new file name: it sorts by priority, then by time of the wall clock, then by order in this process."""
    # The random part keeps apart two containers, whose processes may have the same number.
    rank = _MAX_PRIORITY - priority
    return f"{rank}-{time.time_ns():020d}-{next(_puts):08d}-{os.getpid()}-{os.urandom(4).hex()}.json"


def name_redelivery(name: str) -> str:
    """Return the name under which a taken message is put back: the same place in the order, one redelivery more."""
    match = _NAME.fullmatch(name) or _NAME.fullmatch(name_message(priority=0))
    assert match is not None
    return f"{match['first']}.{int(match['redeliveries'] or 0) + 1}.json"


def encode(message: dict[str, Any]) -> bytes:
    """Return a message's text.

    Raises:
        EncodeError: it is too large for a consumer to read back.
    """
    text = dumps(message).encode()
    if len(text) > MAX_BYTES:
        raise EncodeError(f"cannot send a message of {len(text)} bytes: the embedded broker takes at most {MAX_BYTES}")
    return bytes(text)


def read_message(path: Path) -> dict[str, Any]:
    """Read a taken message; one that was put back is marked as redelivered.

    Raises:
        Unreadable: the file holds no message, with the reason.
        FileNotFoundError: the file is not there.
    """
    content = read_whole(path)
    if not content:
        raise Unreadable("it is empty")
    try:
        message = loads(content.decode())
    except Exception as exc:  # kombu's decoder raises whatever a hostile `__type__` makes it raise
        raise Unreadable(f"it is not JSON: {exc}") from exc
    _check(message)
    match = _NAME.fullmatch(path.name)
    if match and match["redeliveries"]:
        message["headers"]["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
    return dict(message)


def _check(message: object) -> None:
    if not isinstance(message, dict):
        raise Unreadable("it is not a JSON object")
    properties = message.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_info"), dict):
        raise Unreadable("'properties' is not an object with an object 'delivery_info'")
    if not isinstance(message.setdefault("headers", {}), dict):
        raise Unreadable("'headers' is not an object")
    for field in ("content-type", "content-encoding"):
        if not isinstance(message.get(field), str | None):
            raise Unreadable(f"{field!r} is not text")
    body, encoding = message.get("body"), properties.get("body_encoding")
    if not isinstance(body, str | bytes):  # bytes: kombu's JSON has a form for them
        raise Unreadable("'body' is not text")
    if encoding == "base64":
        try:
            b64decode(body)
        except ValueError as exc:
            raise Unreadable(f"'body' is not base64: {exc}") from exc
    elif encoding not in (None, "utf-8"):
        raise Unreadable(f"'body_encoding' {encoding!r} is unknown")
