"""How numbers, times and progress read to a person. Pure: nothing is printed here."""

from __future__ import annotations

import json
import math

from tapfs.bus.fields import Json

_SIZES = ("bytes", "kB", "MB", "GB", "TB")


def plain(text: str) -> str:
    """A text on one line without control characters: files and arguments can hold anything, also terminal codes."""
    return "".join(mark if mark.isprintable() else " " for mark in text)


def compact(value: Json) -> str:
    """A value as it would be typed: texts bare, the rest as JSON."""
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def words_of(arguments: dict[str, Json] | None) -> str:
    """Arguments as `KEY=VALUE` words."""
    return " ".join(f"{plain(key)}={compact(value)}" for key, value in (arguments or {}).items() if value is not None)


def number(value: float) -> str:
    """A number with thousands apart and at most two decimals: `1,000,000`, `0.25`."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}".rstrip("0").rstrip(".")


def counted(count: int, noun: str) -> str:
    """A number of things: `1 fault`, `1,000 operations`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: float) -> str:
    """A number of bytes: `48.2 MB`."""
    power = 0
    while abs(count) >= 1000 and power < len(_SIZES) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {_SIZES[power]}" if power else f"{number(count)} bytes"


def percentage(done: float, total: float) -> int:
    """Per cent done, rounded down: 100 only when all is."""
    return math.floor(100 * done / total)


def progress(done: float | None, total: float | None, unit: str | None) -> str | None:
    """How far a step has come; None when it does not say.

    `500 of 1,000 rows (50 %)`; without a total `500 rows`; with more than was expected `1,200 rows (1,000 expected)`.
    """
    if done is None:
        return None
    if unit == "bytes":
        amount, whole = size(done), size(total or 0)
    else:
        amount = f"{number(done)} {plain(unit)}" if unit else number(done)
        whole = f"{number(total or 0)} {plain(unit)}" if unit else number(total or 0)
    if not total or total < 0:
        return amount
    if done > total:
        return f"{amount} ({whole if unit == 'bytes' else number(total)} expected)"
    return f"{amount if unit == 'bytes' else number(done)} of {whole} ({percentage(done, total)} %)"


def duration(seconds: float | None) -> str:
    """A time span: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`; `-` for an unknown one."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(timestamp: str | None) -> str:
    """A time of ours as people read it: `2026-11-22 10:15:07 UTC`; `-` for none."""
    return "-" if timestamp is None else plain(timestamp)[:19].replace("T", " ") + " UTC"


def shortened(text: str, longest: int) -> str:
    """At most so many characters, with an ellipsis where some are left out."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
