"""Exchanges: which queues a message is copied to.

Owns `exchanges/`. A table is changed under the broker's lock and replaced whole, so it is read without one. Each
connection remembers the bindings it made itself, and makes them again when the table is gone or nonsense.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tapfs.flow.broker.files import Unreadable, explained, list_dir, read_whole, remove, write_whole
from tapfs.flow.broker.layout import Layout, encode_name
from tapfs.flow.broker.locks import SectionLock

_log = logging.getLogger(__name__)

#: Routing key, pattern (for a topic), queue: as kombu's exchange types look them up.
Row = tuple[str, str, str]


@dataclass
class Exchanges:
    """The bindings of one broker, as one connection sees them."""

    layout: Layout
    lock: SectionLock
    _own_rows: dict[str, list[Row]] = field(default_factory=dict)

    def table(self, exchange: str) -> list[Row]:
        """Return the rows of an exchange; none when nothing is bound."""
        rows = self._read(exchange)
        if rows is None and exchange in self._own_rows:
            self._restore(exchange)
            return self._own_rows[exchange]
        return rows or []

    def bind(self, exchange: str, row: Row) -> None:
        """Add a binding, if absent. Locks and writes.

        Raises:
            BrokerError: the table cannot be written.
        """
        own_rows = self._own_rows.setdefault(exchange, [])
        if row not in own_rows:
            own_rows.append(row)
        self._restore(exchange)

    def unbind(self, exchange: str, row: Row) -> None:
        """Remove a binding, if present. Locks and writes."""
        self._own_rows[exchange] = [other for other in self._own_rows.get(exchange, []) if other != row]
        self._keep(exchange, lambda other: other != row)

    def unbind_queue(self, folder: str) -> None:
        """Remove all bindings of a queue. Locks and writes."""
        for exchange, rows in self._own_rows.items():
            self._own_rows[exchange] = [row for row in rows if encode_name(row[2]) != folder]
        for name in list_dir(self.layout.table_path("").parent):
            self._keep_in(name, lambda row: encode_name(row[2]) != folder)

    def delete(self, exchange: str) -> None:
        """Remove an exchange with its bindings; the queues stay."""
        self._own_rows.pop(exchange, None)
        path = self.layout.table_path(exchange)
        with self.lock.held(), explained("delete the exchange", path, "it is still there"):
            remove(path)

    def rebind(self) -> None:
        """Make those of this connection's bindings again that somebody deleted. Locks and writes if there are any."""
        for exchange, own_rows in self._own_rows.items():
            if not set(own_rows).issubset(self._read(exchange) or []):
                self._restore(exchange)

    def _restore(self, exchange: str) -> None:
        with self.lock.held():
            rows = self._read(exchange) or []
            missing = [row for row in self._own_rows.get(exchange, []) if row not in rows]
            if missing:
                self._write(self.layout.table_path(exchange).name, rows + missing)

    def _keep(self, exchange: str, is_kept: Callable[[Row], bool]) -> None:
        self._keep_in(self.layout.table_path(exchange).name, is_kept)

    def _keep_in(self, name: str, is_kept: Callable[[Row], bool]) -> None:
        with self.lock.held():
            rows = self._read_file(name) or []
            kept = [row for row in rows if is_kept(row)]
            if kept != rows:
                self._write(name, kept)

    def _read(self, exchange: str) -> list[Row] | None:
        return self._read_file(self.layout.table_path(exchange).name)

    def _read_file(self, name: str) -> list[Row] | None:
        """Return a table's rows; None when it is not there or no table."""
        path = self.layout.table_path("").parent / name
        try:
            return decode_table(read_whole(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Unreadable as exc:
            _log.error("cannot read %r: %s; living consumers will make their bindings anew", str(path), exc)
            return None

    def _write(self, name: str, rows: list[Row]) -> None:
        path = self.layout.table_path("").parent / name
        with explained("write", path, "the bindings were not changed"):
            write_whole(self.layout, path, encode_table(rows))


def encode_table(rows: list[Row]) -> bytes:
    """Return a table's text: a JSON list of rows, one a line."""
    return ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode()


def decode_table(content: bytes) -> list[Row]:
    """Return the rows of a table.

    Raises:
        Unreadable: the text is no table.
    """
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"it is not JSON: {exc}") from exc
    if not isinstance(rows, list):
        raise Unreadable("it is not a list of rows")
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not all(isinstance(value, str) for value in row):
            raise Unreadable(f"{row!r} is not [routing key, pattern, queue]")
    return [(key, pattern, queue) for key, pattern, queue in rows]
