"""Vandals: what a stranger does to the files of operations. No request that nobody has seen is destroyed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.cases import Case
from chaos.requests import is_taken_in


@dataclass(frozen=True)
class Done:
    """A fault: of what kind, and to whom."""

    kind: str
    target: object = ""


class Vandal:
    """Spoils files; `active` names the operations that have not ended."""

    def __init__(self, control: Path, active: Callable[[], list[Case]], chance: random.Random) -> None:
        self._control = control
        self._active = active
        self._chance = chance

    def spoil_state(self) -> Done | None:
        """Truncate, garble, delete or replace a `state.json` that holds no request nobody has seen."""
        whole = [case for case in self._active() if is_taken_in(case)]
        if not whole:
            return None
        path = self._chance.choice(whole).operation.layout.state
        how = self._chance.choice(["truncate", "garbage", "delete", "half", "link"])
        with suppress(OSError):
            content = path.read_bytes()
            if how == "truncate":
                os.truncate(path, 0)
            elif how == "garbage":
                path.write_bytes(self._chance.randbytes(self._chance.randrange(1, 400)))
            elif how == "half":
                path.write_bytes(content[: len(content) // 2])
            else:
                path.unlink()
                if how == "link":
                    path.symlink_to("/nowhere")
            return Done(f"vandal: {how} state.json", path.parent.name)
        return None

    def delete_run(self) -> Done | None:
        whole = [case for case in self._active() if is_taken_in(case)]
        if not whole:
            return None
        operation = self._chance.choice(whole).operation
        operation.layout.run.unlink(missing_ok=True)
        return Done("vandal: delete run.json", operation.id)

    def delete_entry(self) -> Done | None:
        active = self._active()
        if not active:
            return None
        operation_id = self._chance.choice(active).operation.id
        (self._control / "active" / operation_id).unlink(missing_ok=True)
        return Done("vandal: delete index entry", operation_id)
