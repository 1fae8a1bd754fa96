"""The journal: the append-only history of one operation, one JSON object a line.

```
{"at": "2026-11-22T10:15:07.120Z", "event": "state", "by": "file:PAUSE", "state": "pausing",
 "from": "running", "to": "pausing", "reason": "lunch", "epoch": 1}
```

Every line has `at`, `event`, `by` and `state` (the state after it). A line is appended under the operation's lock and
synced. A torn last line (its writer died) is left out when read and closed by the next append.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.clock import timestamp
from tapfs.bus.fields import Json, to_utf8
from tapfs.bus.states import State

#: Bytes read from the end to find the last line: more than any line tapfs writes.
_TAIL = 16 * 1024
#: The most characters of any text in a line.
_LONGEST_TEXT = 1000


class Journal:
    """The history of one operation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, now: float, event: str, by: str, state: State | None, **details: Json) -> None:
        """Add one line; blocks until it is durable."""
        entry = {"at": timestamp(now), "event": event, "by": by, "state": state} | {
            key: value[:_LONGEST_TEXT] if isinstance(value, str) else value for key, value in details.items()
        }
        files.append_line(self.path, to_utf8(json.dumps(entry, ensure_ascii=False)))

    def entries(self) -> Iterator[dict[str, Json]]:
        """Yield the lines, oldest first; what is not a line of ours is left out."""
        return entries_in(self.path)

    def last_state(self) -> State | None:
        """The state after the last line; None for no history."""
        for line in reversed(files.read_tail(self.path, _TAIL).split(b"\n")):
            entry = _parse(line)
            if entry is not None and entry.get("state") in tuple(State):
                return State(entry["state"])
        return None


def entries_in(path: Path) -> Iterator[dict[str, Json]]:
    """Yield the objects in a file of one JSON object a line; other lines, and no file, count as nothing."""
    try:
        with open(path, "rb", opener=files.open_to_read) as stream:
            for line in stream:
                entry = _parse(line)
                if entry is not None:
                    yield entry
    except FileNotFoundError:
        return


def _parse(line: bytes) -> dict[str, Json] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
