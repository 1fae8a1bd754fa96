"""CsvFile hands out the rows of a plain csv.reader loop, from every cursor, whatever the file holds."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfs.errors import TapfsError
from tapfs.flow.sources import CsvFile, Json, Source, SourceChanged, SourceError, check_same

Rows = list[list[str]]
Write = Callable[[str | bytes], Path]

SECOND_NS = 10**9


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_people(content: str | bytes) -> Path:
        path = tmp_path / "people.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_people


def oracle(path: Path, encoding: str = "utf-8-sig", **dialect: Any) -> Rows:
    """All records, header first, as a plain loop gives them; blank lines left out."""
    with path.open(newline="", encoding=encoding) as file:
        return [row for row in csv.reader(file, **dialect) if row]


def rows(source: CsvFile, cursor: Json = None) -> Rows:
    return [row for chunk, _, _ in source.read(cursor) for row in chunk]


def position(cursor: Json) -> dict[str, int]:
    """A cursor as it comes back from a checkpoint's JSON."""
    numbers: dict[str, int] = json.loads(json.dumps(cursor))
    return numbers


def assert_exact(path: Path, chunk_bytes: int, encoding: str = "utf-8-sig", **dialect: Any) -> None:
    """Header and rows are the oracle's, and so is what follows every cursor, by another source."""
    expected = oracle(path, encoding, **dialect)
    source = CsvFile(path, encoding=encoding, chunk_bytes=chunk_bytes, **dialect)
    assert source.columns == (expected[0] if expected else [])
    handed_out = 1
    for chunk, cursor, done in source.read(None):
        assert chunk == expected[handed_out : handed_out + len(chunk)]
        handed_out += len(chunk)
        assert (position(cursor)["row"], position(cursor)["offset"]) == (handed_out, done)
        again = CsvFile(path, encoding=encoding, chunk_bytes=chunk_bytes + 3, **dialect)
        again.check(source.identity(), cursor)
        assert rows(again, json.loads(json.dumps(cursor))) == expected[handed_out:]
    assert handed_out == max(len(expected), 1)


# What the rows are.

#: Everything CSV, line ends, quotes, UTF-8 or str.splitlines could trip over.
HARD = st.text(alphabet='a"""",,\n\n\r\r é美\u2028\x0c\x85\0\ufeff\'', max_size=80)
LIKELY = st.lists(
    st.sampled_from(
        ["a", '"a,b"', '"a\nb"', '"a\r\nb"', '"a""b"', 'a"b', '5"', '"a"b', '""', ",", "\n", "\r\n", "\r", '"']
    ),
    max_size=40,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(text=HARD | LIKELY, chunk_bytes=st.integers(1, 40))
def test_rows_from_every_cursor_are_those_of_the_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, text: str, chunk_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "hypothesis.csv"
    path.write_bytes(text.encode())
    assert_exact(path, chunk_bytes)


@settings(max_examples=300, deadline=None)
@given(text=HARD, chunk_bytes=st.integers(1, 40))
def test_rows_in_another_dialect_and_encoding_are_those_of_the_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, text: str, chunk_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "hypothesis.csv"
    path.write_bytes(text.encode("gb18030"))
    assert_exact(path, chunk_bytes, "gb18030", delimiter="a", quotechar="'")


CONTENTS = {
    "a comma in quotes": 'name,company\nZoë,"Weber, Klein & Söhne"\nAda,Acme\n',
    "a line end in quotes": 'a,b\n1,"two\nlines"\n2,"two\r\nlines"\n3,"two\rlines"\n4,x\n',
    "doubled quotes": 'a,b\n1,"The ""Blue"" Door"\n2,""""\n3,""\n4,x\n',
    "CRLF line ends": 'a,b\r\n1,2\r\n3,"4\r\n5"\r\n6,7\r\n',
    "lone CR line ends": 'a,b\r1,2\r3,"4\r5"\r6,7\r',
    "line ends of every kind": 'a,b\n1,2\r3,4\r\n5,6\n\r7,"8\n"\r9,0',
    "CR line ends and LF in quotes only": 'a,b\r1,"2\n3"\r4,"5\n6"\r7,"8\n9"',
    "a byte order mark": "\ufeffa,b\n1,2\n",
    "a byte order mark before a quote": '\ufeff"a","b"\n1,2\n',
    "a byte order mark only": "\ufeff",
    "a byte order mark inside": "a,b\n\ufeff1,2\n\ufeff3,4\n",
    "no final line end": "a,b\n1,2\n3,4",
    "nothing": "",
    "a header only": "a,b\n",
    "a header without line end": "a,b",
    "blank lines": "\n\na,b\n\n1,2\n\r\n\n3,4\n\n",
    "blank lines only": "\n\r\n\r\n\n",
    "ragged rows": "a,b\n1\n1,2,3\n,\n \n1,2\n",
    "NUL bytes": "a,b\n1,\0\n\0\0,2\n",
    "a quote never closed": 'a,b\n1,2\n3,"4\n5,6\n7,8\n',
    "a quote never closed at the very end": 'a,b\n1,2\n"',
    "a quote inside an unquoted field": 'a,b\n5" nail,2\n6,7\n8,9" x\n10,11\n',
    "a quote at the end of an unquoted field": 'a,b\n5",2\n6,7"\n8,"9\n10"\n11,12\n',
    "text behind a closing quote": 'a,b\n"1"x"y,2\n3,"4"5"\n"6\n7"8,9\n10,11\n',
    "line separators csv does not know": "a,b\n1\u2028,2\x0c\n3\x85,4\x1c\n5\x0b,6\n",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 8, 13, 1024])
def test_rows_are_those_of_the_plain_loop_with(name: str, chunk_bytes: int, write: Write) -> None:
    assert_exact(write(CONTENTS[name]), chunk_bytes)


def test_a_quoted_field_larger_than_the_block_makes_the_block_grow(write: Write) -> None:
    large = "\n".join(["line, and more"] * 5000)
    assert_exact(write(f'a,b\n1,"{large}"\n2,x\n3,"{large}"\n'), 512)


def test_a_field_of_exactly_the_limit_is_read(write: Write) -> None:
    limit = csv.field_size_limit()
    assert_exact(write('a,b\n1,2\n3,"' + "x" * (limit - 1) + '\n"\n4,5\n'), 1024)


def test_odd_quotes_in_every_block_of_a_large_file_are_exact(write: Write) -> None:
    rnd = random.Random(3)
    fields = ["plain", '5" nail', 'a""b', '"x\ny"', '"q""q"', '"b"c"d', "é美", ""]
    lines = (",".join(rnd.choice(fields) for _ in range(4)) for _ in range(30_000))
    path = write("a,b,c,d\n" + "\n".join(lines))

    source = CsvFile(path)
    chunks = list(source.read(None))

    expected = oracle(path)
    assert [row for chunk, _, _ in chunks for row in chunk] == expected[1:]
    for _, cursor, _ in chunks[::10]:
        assert rows(source, cursor) == expected[position(cursor)["row"] :]


def test_a_large_file_is_never_in_memory_whole(write: Write) -> None:
    path = write("a,b\n" + '1234567890,"x, y"\n' * 400_000)

    assert peak_bytes(lambda: sum(len(chunk) for chunk, _, _ in CsvFile(path).read(None))) < 1_000_000


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Names and numbers.


def test_done_ends_at_the_total(write: Write) -> None:
    source = CsvFile(write("a,b\n1,2\n3,4\n"), chunk_bytes=4)
    *_, (_, _, done) = source.read(None)
    assert (source.unit, source.total(), done) == ("bytes", 12, 12)


def test_a_cursor_is_offset_row_and_checksum(write: Write) -> None:
    source = CsvFile(write("a,b\n1,2\n3,4\n"), chunk_bytes=4)
    assert [(chunk, cursor) for chunk, cursor, _ in source.read(None)] == [
        ([["1", "2"]], {"offset": 8, "row": 2, "crc32": 0x0A97077B}),
        ([["3", "4"]], {"offset": 12, "row": 3, "crc32": 0xCED6E9E5}),
    ]


def test_identity_is_path_size_time_and_manner_of_reading(write: Write) -> None:
    path = write("a;b\n")
    assert CsvFile(path, delimiter=";", encoding="UTF8").identity() == {
        "path": str(path),
        "size": 4,
        "mtime_ns": path.stat().st_mtime_ns,
        "encoding": "utf-8",
        "delimiter": ";",
        "quotechar": '"',
    }


def test_a_path_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "it's \n \udcff.csv"
    path.write_text("a\n1\n")
    source = CsvFile(path)
    assert rows(source) == [["1"]]
    assert json.loads(json.dumps(source.identity()))["path"] == os.fspath(path)


def test_a_symbolic_link_is_followed(write: Write, tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(write("a\n1\n"))
    assert rows(CsvFile(link)) == [["1"]]


# What cannot be read.


def test_bytes_of_another_encoding_end_reading_at_their_row_and_name_the_place(write: Write) -> None:
    path = write(b'name,city\nAda,"Lon\ndon"\n\nBob,Rome\nZo\xeb,Paris\nEve,Oslo\n')
    handed_out: Rows = []
    with pytest.raises(SourceError) as caught:
        handed_out.extend(row for chunk, _, _ in CsvFile(path).read(None) for row in chunk)

    assert handed_out == [["Ada", "Lon\ndon"], ["Bob", "Rome"]]
    assert str(caught.value) == (
        f"cannot read '{path}': row 4 is not utf-8: byte 36 is 0xeb (invalid continuation byte)"
    )
    assert caught.value.hint == (
        f"pass the file's own encoding=, or convert it, as with: iconv -f LATIN1 -t UTF-8 {path} > converted.csv"
    )
    assert (caught.value.path, caught.value.row, caught.value.offset) == (str(path), 4, 36)


@pytest.mark.parametrize("chunk_bytes", range(1, 50))
def test_the_row_of_bad_bytes_does_not_depend_on_the_blocks(chunk_bytes: int, write: Write) -> None:
    path = write('a,b\r\n1,"é\r\n'.encode() + b'\xff"\r\n2,3\r\n')
    with pytest.raises(SourceError) as caught:
        rows(CsvFile(path, chunk_bytes=chunk_bytes))
    assert (caught.value.row, caught.value.offset) == (2, 12)


def test_a_character_cut_off_at_the_end_is_named(write: Write) -> None:
    source = CsvFile(write(b"a\n1\n\xe7\xbe"), chunk_bytes=2)
    with pytest.raises(SourceError, match=r"row 3 is not utf-8: byte 4 is 0xe7be \(unexpected end of data\)"):
        rows(source)


def test_the_encoding_of_the_file_may_be_passed(write: Write) -> None:
    assert_exact(write("name\nZoë\nÅsa\n".encode("latin-1")), 4, "latin-1")


def test_a_field_over_the_limit_ends_reading_at_its_row_and_says_what_to_do(write: Write) -> None:
    path = write('a,b\n1,2\n3,4\n5,"6\n' + "7,8\n" * 100_000)
    handed_out: Rows = []
    with pytest.raises(SourceError) as caught:
        handed_out.extend(row for chunk, _, _ in CsvFile(path).read(None) for row in chunk)

    assert handed_out == [["1", "2"], ["3", "4"]]
    assert str(caught.value) == f"cannot read '{path}': row 4, at byte 12: field larger than field limit (131072)"
    assert "quote that is never closed" in str(caught.value.hint)
    assert "csv.field_size_limit()" in str(caught.value.hint)


def test_a_huge_file_without_line_ends_is_refused_before_it_is_in_memory(write: Write) -> None:
    path = write(b"x" * 20_000_000)

    def read() -> None:
        with pytest.raises(SourceError, match="row 1, at byte 0: field larger than field limit"):
            rows(CsvFile(path))

    assert peak_bytes(read) < 3_000_000


def test_a_header_that_cannot_be_read_is_found_by_verify(write: Write) -> None:
    with pytest.raises(SourceError, match="row 1 is not utf-8: byte 1 is 0xff"):
        CsvFile(write(b"a\xff\n1\n")).verify()


def test_verify_looks_anew_each_time(write: Write) -> None:
    source = CsvFile(write("a\n"))
    source.verify()
    assert source.columns == ["a"]
    write("b\n")
    source.verify()
    assert source.columns == ["b"]


USES: list[Callable[[CsvFile], object]] = [
    CsvFile.verify,
    CsvFile.identity,
    CsvFile.total,
    lambda source: source.columns,
    lambda source: source.check({}, None),
    rows,
]


@pytest.mark.parametrize("use", USES)
def test_a_missing_file_is_named_with_the_reason(use: Callable[[CsvFile], object], tmp_path: Path) -> None:
    path = tmp_path / "absent.csv"
    with pytest.raises(SourceError) as caught:
        use(CsvFile(path))
    assert str(caught.value) == f"cannot read '{path}': No such file or directory"
    assert caught.value.hint == "see that the path is right, seen from the directory the worker runs in"


@pytest.mark.parametrize("use", USES)
def test_a_directory_is_refused(use: Callable[[CsvFile], object], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it is a directory"):
        use(CsvFile(tmp_path))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("use", USES)
def test_a_fifo_is_refused_and_does_not_hang(use: Callable[[CsvFile], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "people.csv")
    with pytest.raises(SourceError, match="it is not a regular file"):
        use(CsvFile(tmp_path / "people.csv"))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(SourceError, match="it is not a regular file"):
        CsvFile(path).verify()


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read everything, so be somebody else for a while."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield
    os.seteuid(user)


def test_a_file_that_may_not_be_read_is_said_so(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "people.csv"
    path.write_text("a\n")
    path.chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(SourceError, match="Permission denied") as caught:
        CsvFile(path).verify()
    assert caught.value.hint == "let the worker's user read the file and enter the folders above it"


def test_a_nul_in_the_path_is_refused() -> None:
    with pytest.raises(SourceError, match="embedded null byte"):
        CsvFile("a\0b").verify()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"chunk_bytes": 0}, "chunk_bytes is 0"),
        ({"encoding": "klingon"}, "there is no encoding 'klingon'"),
        ({"encoding": "utf-16"}, "encoding 'utf-16' cannot be used"),
        ({"encoding": "utf-7"}, "encoding 'utf-7' cannot be used"),
        ({"encoding": "cp500"}, "encoding 'cp500' cannot be used: ASCII is not itself in it"),
        ({"encoding": "ascii", "quotechar": "«"}, "encoding 'ascii' cannot be used"),
        ({"delimiter": ";;"}, "delimiter ';;' and quotechar '\"' must be two different characters, no line ends"),
        ({"delimiter": '"'}, "must be two different characters"),
        ({"quotechar": ""}, "must be two different characters"),
        ({"quotechar": "\n"}, "no line ends"),
    ],
)
def test_what_csv_cannot_be_read_with_is_refused_at_once(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        CsvFile("people.csv", **arguments)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "cursor",
    [
        7,
        "8",
        [],
        {},
        {"offset": 8, "row": 2},
        {"offset": -1, "row": 2, "crc32": 0},
        {"offset": 8, "row": 0, "crc32": 0},
        {"offset": True, "row": 2, "crc32": 0},
        {"offset": 8.0, "row": 2, "crc32": 0},
    ],
)
def test_what_is_no_cursor_is_refused(cursor: Json, write: Write) -> None:
    source = CsvFile(write("a,b\n1,2\n3,4\n"))
    with pytest.raises(SourceError, match="is no cursor of a CSV file"):
        rows(source, cursor)
    with pytest.raises(SourceError, match="is no cursor of a CSV file"):
        source.check(source.identity(), cursor)


# A file that changes while nobody reads it.


def paused(path: Path) -> tuple[dict[str, Json], Json]:
    """Identity and cursor as a checkpoint has them, behind the first chunk."""
    source = CsvFile(path, chunk_bytes=8)
    _, cursor, _ = next(iter(source.read(None)))
    return source.identity(), cursor


def set_time(path: Path, seconds: int) -> None:
    os.utime(path, ns=(seconds * SECOND_NS, seconds * SECOND_NS))


def test_an_unchanged_file_is_gone_on_with(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    identity, cursor = paused(path)
    CsvFile(path).check(identity, cursor)
    assert rows(CsvFile(path), cursor) == [["3", "4"]]


def test_another_size_is_refused_with_both_sizes_and_times(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    set_time(path, 1_000_000_000)
    identity, cursor = paused(path)
    write("a,b\n1,2\n3,4\n5,6\n")
    set_time(path, 1_000_000_060)
    with pytest.raises(SourceChanged) as caught:
        CsvFile(path).check(identity, cursor)

    assert str(caught.value) == (
        f"cannot go on with '{path}': it changed since row 2 was read: it has 16 bytes, it had 12 "
        "(modified 2001-09-09T01:47:40Z, was 2001-09-09T01:46:40Z)"
    )
    assert caught.value.hint == "put the old file back and 'tapfs resume', or start anew"
    assert (caught.value.path, caught.value.row, caught.value.offset) == (str(path), 2, 8)


def test_a_touched_file_is_gone_on_with(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    identity, cursor = paused(path)
    set_time(path, 1_000_000_000)
    CsvFile(path).check(identity, cursor)


def test_other_bytes_behind_the_cursor_are_read_as_they_are_now(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    identity, cursor = paused(path)
    write("a,b\n1,2\n9,9\n")
    set_time(path, 1_000_000_000)
    CsvFile(path).check(identity, cursor)
    assert rows(CsvFile(path), cursor) == [["9", "9"]]


def test_other_bytes_before_the_cursor_are_refused(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    identity, cursor = paused(path)
    write("a,b\n9,9\n3,4\n")
    set_time(path, 1_000_000_000)
    with pytest.raises(SourceChanged, match="since row 2 was read: its first 8 bytes are not those that were read"):
        CsvFile(path).check(identity, cursor)


@pytest.mark.parametrize(("content", "is_same"), [("a,b\n1,2\n3,4\n", True), ("a,b\n9,9\n3,4\n", False)])
def test_a_file_at_another_path_is_gone_on_with_only_if_its_bytes_are_the_same(
    content: str, is_same: bool, write: Write, tmp_path: Path
) -> None:
    path = write("a,b\n1,2\n3,4\n")
    set_time(path, 1_000_000_000)
    identity, cursor = paused(path)
    moved = tmp_path / "moved.csv"
    moved.write_text(content)
    set_time(moved, 1_000_000_000)
    if is_same:
        CsvFile(moved).check(identity, cursor)
    else:
        with pytest.raises(SourceChanged):
            CsvFile(moved).check(identity, cursor)


def test_another_manner_of_reading_is_refused_and_named(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    identity, cursor = paused(path)
    with pytest.raises(SourceChanged) as caught:
        CsvFile(path, delimiter=";").check(identity, cursor)
    assert "delimiter is ';', it was ','" in str(caught.value)
    assert "quotechar" not in str(caught.value)


def test_a_change_before_anything_was_read_does_not_matter(write: Write) -> None:
    path = write("a,b\n1,2\n")
    identity = CsvFile(path).identity()
    write("a,b\n1,2\n3,4\n")
    CsvFile(path, delimiter=";").check(identity, None)


def test_a_checkpoint_without_size_is_refused(write: Write) -> None:
    path = write("a,b\n1,2\n3,4\n")
    identity, cursor = paused(path)
    with pytest.raises(SourceError, match="does not say its size"):
        CsvFile(path).check({**identity, "size": None}, cursor)


# A file that changes while it is read.


def test_a_file_cut_while_it_is_read_ends_reading_behind_what_was_handed_out(write: Write) -> None:
    path = write("a,b\n" + "1,2\n" * 10_000)
    reading = CsvFile(path).read(None)
    chunk, _, done = next(reading)
    os.truncate(path, 50)
    with pytest.raises(SourceChanged) as caught:
        next(reading)
    assert f"it changed since row {1 + len(chunk)} was read: it was cut to 50 bytes" in str(caught.value)
    assert (caught.value.row, caught.value.offset) == (1 + len(chunk), done)


def test_a_file_that_grows_while_it_is_read_is_said_so_at_its_end(write: Write) -> None:
    path = write("a,b\n" + "1,2\n" * 100)
    reading = CsvFile(path, chunk_bytes=40).read(None)
    next(reading)
    with path.open("a") as file:
        file.write("3,4\n")
    with pytest.raises(SourceChanged, match="it has 408 bytes, it had 404"):
        list(reading)


def test_a_file_written_over_while_it_is_read_is_said_so_at_its_end(write: Write) -> None:
    path = write("a,b\n" + "1,2\n" * 100)
    set_time(path, 1_000_000_000)
    reading = CsvFile(path, chunk_bytes=40).read(None)
    next(reading)
    with path.open("r+") as file:
        file.write("x,y\n")
    with pytest.raises(SourceChanged, match="bytes are not those that were read"):
        list(reading)


def test_a_file_replaced_while_it_is_read_is_read_to_its_old_end(write: Write, tmp_path: Path) -> None:
    path = write("a,b\n" + "1,2\n" * 100)
    reading = CsvFile(path, chunk_bytes=40).read(None)
    chunk, _, _ = next(reading)
    (tmp_path / "new.csv").write_text("a,b\n3,4\n")
    (tmp_path / "new.csv").replace(path)
    assert len(chunk) + sum(len(chunk) for chunk, _, _ in reading) == 100


def test_a_disk_that_fails_is_said_so_with_the_last_row_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    class FailingFile(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 40:
                raise OSError(5, "Input/output error")
            return super().read(-1 if size is None else size)

    path = write("a,b\n" + "1,2\n" * 100)
    source = CsvFile(path, chunk_bytes=40)
    monkeypatch.setattr(source, "_open", lambda: FailingFile(path))
    with pytest.raises(SourceError, match="Input/output error behind row 10"):
        rows(source)


# What any source has in common.


class Lines(Source[list[str]]):
    """The example of the protocol's docstring."""

    unit = "lines"

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def identity(self) -> dict[str, Json]:
        return {"lines": len(self.lines)}

    def total(self) -> int | None:
        return len(self.lines)

    def read(self, cursor: Json) -> Iterator[tuple[list[str], Json, int]]:
        start = cursor if isinstance(cursor, int) else 0
        for at in range(start, len(self.lines), 100):
            done = min(at + 100, len(self.lines))
            yield self.lines[at:done], done, done


def test_a_source_of_ones_own_takes_ten_lines() -> None:
    lines = [str(n) for n in range(250)]
    source: Source[list[str]] = Lines(lines)
    (_, cursor, _), *_ = source.read(None)
    source.check({"lines": 250}, cursor)
    assert [line for chunk, _, _ in source.read(cursor) for line in chunk] == lines[100:]


def test_a_source_checks_by_its_identity_if_it_says_nothing_else() -> None:
    with pytest.raises(SourceChanged, match="lines is 3, it was 2"):
        Lines(["a", "b", "c"]).check({"lines": 2}, 1)


def test_every_field_that_differs_is_named() -> None:
    with pytest.raises(SourceChanged) as caught:
        check_same({"same": 1, "size": 2, "gone": None}, {"same": 1, "size": 3, "new": "x"})
    assert str(caught.value) == (
        "cannot go on from the checkpoint: the source changed since: "
        "gone is absent, it was None; new is 'x', it was absent; size is 3, it was 2"
    )


@pytest.mark.parametrize("kind", [SourceError, SourceChanged])
def test_errors_survive_pickling_with_their_fields(kind: type[SourceError]) -> None:
    error = pickle.loads(pickle.dumps(kind("no", hint="do", path="p", row=3, offset=8)))
    assert type(error) is kind
    assert isinstance(error, TapfsError)
    assert (str(error), error.hint, error.path, error.row, error.offset) == ("no", "do", "p", 3, 8)
