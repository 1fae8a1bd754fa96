"""Options of signatures: how those of a chain, group or chord reach its tasks, and how a step's are kept.

What is kept is given to Celery each time the step is published. What cannot be kept is refused, never dropped in
silence; only what Celery sets itself, and what says how Celery is to wait for a chord, means nothing here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery.canvas import Signature

from tapfs.bus.fields import Json
from tapfs.errors import TapfsError
from tapfs.flow.codec import to_json

Options = dict[str, Any]

#: Options of a signature that are kept with the step and used each time it is published; stamps are kept too.
KEPT_OPTIONS = frozenset(
    {
        "queue",
        "routing_key",
        "route_name",
        "exchange",
        "exchange_type",
        "priority",
        "mandatory",
        "countdown",
        "eta",
        "expires",
        "time_limit",
        "soft_time_limit",
        "headers",
        "link",
        "link_error",
        "ignore_result",
        "shadow",
        "argsrepr",
        "kwargsrepr",
        "compression",
        "delivery_mode",
        "retry",
        "retry_policy",
        "stamped_headers",
    }
)
#: What `fan_out` notes at the members of a group; it is the group's, not theirs.
MARK = "tapfs_fan_out"
#: Options that Celery sets itself and that mean nothing to a step that is published alone.
_OF_CELERY = frozenset(
    {
        "task_id",
        "root_id",
        "parent_id",
        "reply_to",
        "chain",
        "chord",
        "group_id",
        "group_index",
        "origin",
        "add_to_parent",
        "replaced_task_nesting",
        "use_link",
    }
)
_LISTS = ("link", "link_error", "stamped_headers")
_TIMES = ("eta", "expires")
_SECONDS = ("countdown", "expires", "time_limit", "soft_time_limit")


class NotTappable(TapfsError):
    """A workflow cannot be made tappable; nothing was started."""


def own_options(signature: Signature) -> Options:
    """A signature's own options, without those that Celery sets itself."""
    left_out = {*_OF_CELERY, MARK}
    return {name: value for name, value in signature.options.items() if value is not None and name not in left_out}


def overlaid(own: Options, given: Options) -> Options:
    """A signature's options with those that it is given from outside over them, as Celery merges them.

    Callbacks are added to its own, and its own stamps stay as they are.
    """
    stamps = set(_listed(own.get("stamped_headers")))
    merged = {**own, **{name: value for name, value in given.items() if name not in stamps}}
    for name in _LISTS:
        if name in own and name in given:
            mine = _listed(own[name])
            merged[name] = mine + [one for one in _listed(given[name]) if one not in mine]
    return merged


def split(options: Options, *names: str) -> tuple[Options, Options]:
    """The options of these names, and the others."""
    return (
        {name: options[name] for name in names if name in options},
        {name: value for name, value in options.items() if name not in names},
    )


def stored_options(options: Options, where: str) -> dict[str, Json]:
    """A step's options as they stand in `workflow.json`.

    Times are ISO texts with their zone; callbacks are lists of signatures as Celery writes them:
    `{"eta": "2026-11-22T10:15:07+00:00", "link": [{"task": "shop.tell", "args": [], "kwargs": {}, ...}]}`.

    Raises:
        NotTappable: an option that cannot be kept.
        ResultUnstorable: a value that JSON cannot hold.
    """
    stamps = set(_listed(options.get("stamped_headers")))
    kept = {
        name: _kept(name, value, where)
        for name, value in options.items()
        if name in KEPT_OPTIONS or name in stamps or _refuse(name, value, where)
    }
    missing = sorted(stamps - kept.keys())
    if missing:
        raise NotTappable(f"{where} names the stamp '{missing[0]}' in its stamped_headers, but has no such option")
    encoded: dict[str, Json] = to_json(kept, f"the options of {where}")
    return encoded


def _refuse(name: str, value: object, where: str) -> bool:
    """False for the one other option that may be left out; whatever else raises."""
    if name != "serializer":
        raise NotTappable(
            f"{where} has the option '{name}', which tapfs cannot keep: it is none of Celery's",
            hint="a stamp must be named in stamped_headers, as stamp() does; other values can go into headers",
        )
    if value != "json":
        raise NotTappable(
            f"{where} has the option 'serializer' with {value!r}: arguments and results of a step do not travel, they "
            "are stored as JSON",
            hint="leave the option out, or pass what JSON can hold",
        )
    return False


def _kept(name: str, value: Any, where: str) -> Any:
    if name in ("link", "link_error"):
        return [_callback(one, name, where) for one in _listed(value)]
    if name == "stamped_headers":
        return sorted(set(_listed(value)))
    if name in _TIMES and isinstance(value, (datetime, str)):
        return _moment(name, value, where)
    if name in _SECONDS and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise NotTappable(f"{where} has the option '{name}' with {value!r}: it must be a number of seconds")
    if name == "eta":
        raise NotTappable(f"{where} has the option 'eta' with {value!r}: it must be a datetime")
    if name == "headers" and not isinstance(value, dict):
        raise NotTappable(f"{where} has the option 'headers' with {value!r}: it must be a dict")
    return value


def _moment(name: str, value: datetime | str, where: str) -> str:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise NotTappable(f"{where} has the option '{name}' with {value!r}: it is no time") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()  # naive: as Celery does


def _callback(value: object, name: str, where: str) -> Json:
    if not isinstance(value, dict) or not isinstance(value.get("task"), str):
        raise NotTappable(
            f"{where} has the option '{name}' with {value!r}: it is no signature", hint="make one with task.s(...)"
        )
    return to_json(dict(value), f"the option '{name}' of {where}")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
