"""`tally`: count the rows of a CSV file by two of its columns, exactly, whatever happens in between.

Result: `{"<value of by>": {"<value of of>": count}}`, for instance by company and gender. A row too short to have one
of the columns counts under an empty text.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

from celery import chain, shared_task

from tapfs import settings
from tapfs.bus import files
from tapfs.bus.fields import near
from tapfs.errors import TapfsError
from tapfs.flow import tap
from tapfs.flow.sources import CsvFile, SourceError
from tapfs.flow.sources.csvfile import CHUNK_BYTES

#: Bytes of a tenth of a row, about.
_PACED_BYTES = 4

Totals = dict[str, dict[str, int]]


def tally(path: Path, by: str, of: str, output: Path | None = None, pace: int | None = None) -> Any:
    """Count the rows of a CSV file by two of its columns.

    Args:
        path: the file.
        by, of: the columns.
        output: where the counts are written as JSON; None for a file in the data directory.
        pace: read at most so many rows a second; None for as many as there is time for.
    """
    if pace is not None and pace < 1:
        raise TapfsError(
            f"cannot tally at a pace of {pace} rows a second: it must be 1 or more", hint="or leave it out"
        )
    if output is not None and output.is_dir():
        raise TapfsError(f"cannot write the counts to '{output}': it is a folder", hint="name a file in it")
    place = os.path.abspath(path)
    find_columns(place, by, of)
    target = os.path.abspath(output if output is not None else settings.data_path())
    return chain(check.s(place, by, of), count.s(place, pace), save.s(target, is_folder=output is None))


def find_columns(path: str, by: str, of: str) -> list[int]:
    """Find the places of two columns.

    Raises:
        SourceError: the file cannot be read, or has no such column; every missing column is named.
    """
    columns = CsvFile(path).columns
    missing = [f"'{name}'{near(name, columns)}" for name in dict.fromkeys((by, of)) if name not in columns]
    if missing:
        known = ", ".join(columns) or "none: it is empty"
        raise SourceError(f"'{path}' has no column {' and no column '.join(missing)}", hint=f"its columns: {known}")
    return [columns.index(by), columns.index(of)]


@shared_task(name="tapfs.tally.check")
def check(path: str, by: str, of: str) -> list[int]:
    """Make sure that the file can be read and has both columns; returns their places."""
    return find_columns(path, by, of)


@shared_task(name="tapfs.tally.count")
def count(places: list[int], path: str, pace: int | None = None) -> Totals:
    """Fold the file: count its rows by the values in two places."""
    pick = itemgetter(*places) if places[0] != places[1] else lambda row: (row[places[0]],) * 2
    totals: Totals
    # At a pace, a chunk is about a tenth of a second, for there is a tap behind each only.
    chunk_bytes = CHUNK_BYTES if pace is None else min(CHUNK_BYTES, _PACED_BYTES * pace)
    for totals, rows in tap.fold(CsvFile(path, chunk_bytes=chunk_bytes), {}):
        began = time.monotonic()
        try:
            counted = Counter(map(pick, rows))
        except IndexError:  # a row is too short
            counted = Counter(tuple(row[place] if place < len(row) else "" for place in places) for row in rows)
        for (by, of), number in counted.items():
            group = totals.setdefault(by, {})
            group[of] = group.get(of, 0) + number
        if pace is not None:
            time.sleep(max(0.0, len(rows) / pace - (time.monotonic() - began)))
    return totals


@shared_task(name="tapfs.tally.save")
def save(totals: Totals, target: str, *, is_folder: bool) -> Totals:
    """Write the counts to a file, whole or not at all; returns them, sorted by name."""
    path = Path(target) / f"{tap.operation_id() or 'tally'}.json" if is_folder else Path(target)
    ordered = {by: dict(sorted(totals[by].items())) for by in sorted(totals)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, (json.dumps(ordered, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise TapfsError(f"cannot write the counts to '{path}': {error.strerror}") from error
    return ordered
