"""What a running step saves: its checkpoint, and which of its side effects were begun.

Both are the holder's alone, and fenced as a commit is (law 3): a holder that lost its step while it was frozen writes
neither when it wakes, however close it was to doing so.
"""

from __future__ import annotations

import json
import os

from tapfs.bus import files
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.fields import to_utf8
from tapfs.bus.folder import OperationFolder
from tapfs.bus.journal import entries_in
from tapfs.bus.records import LARGE, Checkpoint
from tapfs.errors import RecordInvalid


def write_checkpoint(operation: OperationFolder, held: HeldClaim, checkpoint: Checkpoint) -> bool:
    """Save a running step's place; blocks until it is durable. Only its naming is done under the operation's lock.

    Returns:
        Whether it was written; not when the step was given to another.
    """
    target = operation.layout.checkpoint(held.step)
    files.make_dirs(target.parent, operation.layout.folder)
    temporary = files.write_temporary(target.parent, checkpoint.encode())
    is_named = False
    try:
        with operation.locked():
            if held.is_ours():
                os.rename(temporary, target)
                is_named = True
    finally:
        if not is_named:
            files.remove(temporary)
    if is_named:
        files.sync_dir(target.parent)
    return is_named


def read_checkpoint(operation: OperationFolder, held: HeldClaim) -> Checkpoint | None:
    """The place where an earlier run of the step stopped; None for none. Raises `RecordInvalid` where it is spoilt."""
    try:
        return Checkpoint.read(operation.layout.checkpoint(held.step), LARGE)
    except FileNotFoundError:
        return None
    except RecordInvalid as error:
        raise RecordInvalid(error.path, error.faults, hint="move the file away to start the step anew") from None


def read_begun(operation: OperationFolder, held: HeldClaim) -> set[str]:
    """The keys of the side effects that earlier runs of the step began."""
    keys = (entry.get("key") for entry in entries_in(operation.layout.once(held.step)))
    return {key for key in keys if isinstance(key, str)}


def note_begun(operation: OperationFolder, held: HeldClaim, key: str) -> bool:
    """Note that the step begins the side effect of that key; blocks until the note is durable.

    Each line of the file is `{"key": "mail-42", "at": "2026-11-22T10:15:07.120Z", "attempt": 1}`. A torn last line was
    not answered for: its key is free.

    Returns:
        Whether it was noted; not when the step was given to another.
    """
    path = operation.layout.once(held.step)
    line = {"key": key, "at": timestamp(operation.now()), "attempt": held.claim.attempt}
    with operation.locked():
        if not held.is_ours():
            return False
        files.make_dirs(path.parent, operation.layout.folder)
        files.append_line(path, to_utf8(json.dumps(line, ensure_ascii=False)))
    return True
