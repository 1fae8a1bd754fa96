"""`state.json`: however it is edited, at whatever instant, no edit is lost and no nonsense moves anything."""

import os
import random
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import skip_unless, wait_for
from support.bench import Bench, events, history
from support.editors import EDITORS, as_vim, by_rename, in_place
from support.mortal import deaths
from tapfs.bus import swap
from tapfs.bus.operation import Operation
from tapfs.bus.records import StateView
from tapfs.bus.requests import in_force
from tapfs.bus.statefile import OPEN_SETTLE_S, SETTLE_S, Reading
from tapfs.bus.states import State, Want

Editor = Callable[[Path, str], None]

PAUSE = '{"want": "pause", "reason": "by hand"}'


@pytest.fixture(params=["exchange", "no exchange"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of putting the file in place."""
    if request.param == "no exchange":
        monkeypatch.setattr(swap, "_renameat2", None)


def settled(operation: Operation) -> Operation:
    """Reconcile until there is nothing more to look at."""
    wait_for(lambda: not operation.reconcile().look_again, 3.0)
    return operation


def asked(operation: Operation) -> list[tuple[str, str | None]]:
    return [(entry["want"], entry["reason"]) for entry in events(operation, "asked")]


def rejected(operation: Operation) -> list[str]:
    return sorted(path.name for path in operation.path.glob("*.rejected-*"))


# ---- a valid edit, in every way and at every instant


@pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)
@pytest.mark.usefixtures("exchange")
def test_an_edit_is_taken_in_however_it_is_made(bench: Bench, editor: Editor) -> None:
    """X01."""
    operation = bench.start()
    editor(operation.layout.state, operation.layout.state.read_text().replace('"want": "run"', '"want": "pause"'))
    assert operation.reconcile().state is State.PAUSED
    editor(operation.layout.state, operation.layout.state.read_text().replace('"want": "pause"', '"want": "run"'))
    operation.reconcile()
    assert (operation.state, operation.epoch()) == (State.RUNNING, 2)
    assert asked(operation) == [("pause", None), ("run", None)]


def test_a_partial_document_is_a_whole_request(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.write_text('{"want": "pause"}')
    assert operation.reconcile().state is State.PAUSED
    view = operation.state_file.read().view
    assert view is not None
    assert (view.state, view.step, view.steps_total, view.epoch) == ("paused", "0001-one", 2, 1)


def test_what_people_write_into_tapfs_fields_is_put_right_and_asks_nothing(bench: Bench) -> None:
    operation = bench.start()
    before = operation.view()
    operation.layout.state.write_text('{"want": "run", "state": "succeeded", "steps_done": 99, "epoch": 7}')
    operation.reconcile()
    assert operation.view() == before
    assert asked(operation) == []


def test_the_reason_alone_is_an_edit(bench: Bench) -> None:
    operation = bench.start(want=Want.PAUSE, reason="lunch")
    operation.layout.state.write_text('{"want": "pause", "reason": "dinner"}')
    operation.reconcile()
    assert (operation.view().reason, operation.state) == ("dinner", State.PAUSED)
    assert asked(operation) == [("pause", "dinner")]


@pytest.mark.usefixtures("exchange")
def test_an_editor_that_had_the_file_open_writes_into_a_displaced_one_and_is_heard(bench: Bench) -> None:
    operation = bench.start()
    with operation.layout.state.open("r+") as editor:
        bench.claim(operation)  # a new view is put in
        editor.truncate()
        editor.write(PAUSE)
    assert "by hand" not in operation.layout.state.read_text()
    assert operation.reconcile().state is State.PAUSING
    assert (operation.view().want, operation.view().reason) == ("pause", "by hand")
    settled(operation)
    assert operation.state is State.PAUSING
    assert asked(operation) == [("pause", "by hand")]


def test_an_editor_with_the_file_open_is_waited_for_however_many_views_later(bench: Bench) -> None:
    operation = bench.start(9)
    with operation.layout.state.open("r+") as editor:
        for _ in range(4):
            bench.step(operation)
            bench.now += 2
            operation.reconcile()
        time.sleep(SETTLE_S * 1.5)  # long enough for the later displaced files to be let go of
        assert operation.reconcile().look_again
        editor.truncate()
        editor.write(PAUSE)
    assert operation.reconcile().state is State.PAUSED
    settled(operation)
    assert operation.state is State.PAUSED
    assert not list(operation.path.glob(".state.json.*"))


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("editor", [in_place, by_rename, as_vim])
def test_an_edit_between_reading_and_putting_is_taken_in(bench: Bench, editor: Editor) -> None:
    operation = bench.start()
    seen = operation.state_file.read()
    editor(operation.layout.state, PAUSE)
    assert seen.view is not None
    with operation.locked():
        assert operation.state_file.put(seen.view, seen) is None
    assert operation.view().want == "run", "our view is there, and the edit beside it"
    assert in_force(operation.control, operation.layout).reason == "by hand"
    assert operation.reconcile().state is State.PAUSED
    assert asked(operation) == [("pause", "by hand")]


@pytest.mark.usefixtures("exchange")
def test_of_a_burst_the_last_is_applied_also_when_it_takes_back_the_first(bench: Bench) -> None:
    """An edit slips in, and then another that says just what stood there before."""
    operation = bench.start()
    seen = operation.state_file.read()
    assert seen.view is not None
    in_place(operation.layout.state, PAUSE)
    with operation.locked():
        operation.state_file.put(seen.view, seen)
    time.sleep(0.01)
    by_rename(operation.layout.state, operation.layout.state.read_text())
    settled(operation)
    assert (operation.view().want, operation.state) == ("run", State.QUEUED)


@pytest.mark.usefixtures("exchange")
def test_an_edit_survives_death_between_any_two_writes_of_taking_it_in(bench: Bench) -> None:
    """It is in a displaced file, and the process that takes it in dies at each of its writes in turn."""
    for operation in deaths(lambda: _with_displaced_edit(bench), lambda one: bench.other(one).reconcile()):
        assert in_force(operation.control, operation.layout).want is Want.PAUSE
        operation.reconcile()
        assert (operation.view().want, operation.view().reason) == ("pause", "by hand")
        assert operation.reconcile().state is State.PAUSED
        assert ("pause", "by hand") in asked(operation)
        assert rejected(operation) == []


def _with_displaced_edit(bench: Bench) -> Operation:
    operation = bench.start()
    seen = operation.state_file.read()
    by_rename(operation.layout.state, PAUSE)
    assert seen.view is not None
    with operation.locked():
        operation.state_file.put(seen.view, seen)
    return operation


# ---- edits in the making


def test_a_file_that_was_truncated_and_is_written_a_moment_later_is_no_nonsense(bench: Bench) -> None:
    operation = bench.start()
    with operation.layout.state.open("w") as editor:
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            assert operation.reconcile().look_again
        editor.write(PAUSE)
    assert operation.reconcile().state is State.PAUSED
    assert rejected(operation) == []


def test_an_invalid_text_that_somebody_has_open_is_left_alone_for_longer(bench: Bench) -> None:
    operation = bench.start()
    skip_unless(swap.has_writer(operation.layout.state) is not None, "take a lease on a file")
    with operation.layout.state.open("w") as editor:
        editor.write('{"want": ')
        editor.flush()
        time.sleep(SETTLE_S * 1.5)
        assert operation.reconcile().look_again
        assert rejected(operation) == []
        editor.write('"pause"}')
    assert operation.reconcile().state is State.PAUSED


@pytest.mark.parametrize("age_s", [OPEN_SETTLE_S + 1, -3600], ids=["long ago", "from the future"])
def test_an_invalid_text_is_not_left_alone_for_ever(bench: Bench, age_s: float) -> None:
    """Its time is what `utime` says; the time of that change itself cannot be set, so this waits for the short one."""
    operation = bench.start()
    operation.layout.state.write_text("{")
    os.utime(operation.layout.state, (time.time() - age_s,) * 2)
    wait_for(lambda: operation.reconcile() and rejected(operation), 2.0)


def test_a_young_invalid_text_is_set_aside_within_200_ms(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.write_text("{")
    wait_for(lambda: operation.reconcile() and rejected(operation), 0.2)


# ---- nonsense


def _nonsense(path: Path, kind: str, target: Path) -> None:
    path.unlink()
    if kind == "link":
        path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.write_bytes(NONSENSE[kind])


NONSENSE = {
    "empty": b"",
    "blanks": b" " * 50_000_000,
    "truncated": b'{\n  "want": "run",\n  "rea',
    "binary": b"\x7fELF\x02\x01\x01\0\xff\xfe",
    "unknown word": b'{"want": "stop"}',
    "unknown field": b'{"want": "run", "raeson": "x"}',
    "wrong type": b'{"want": "run", "epoch": "many", "reason": 5}',
    "duplicate key": b'{"want": "run", "want": "pause"}',
    "list": b'["pause"]',
    "no want": b'{"reason": "x"}',
    "long reason": b'{"want": "pause", "reason": "' + b"x" * 1001 + b'"}',
    "deep": b"[" * 60_000,
}
FAULTS = {
    "empty": "it is empty",
    "blanks": "it is larger than 65,536 bytes",
    "truncated": "line 3, column 3",
    "binary": "line 1: byte 8 is not UTF-8 text",
    "unknown word": "field 'want': \"stop\" is none of run, pause, cancel",
    "unknown field": "field \"raeson\" is unknown (did you mean 'reason'?)",
    "wrong type": "field 'reason': 5 is a whole number, not a text or null; field 'epoch': \"many\" is a text",
    "duplicate key": "field 'want' stands there twice",
    "list": "it holds a list where an object {...} is needed",
    "no want": "field 'want' is missing",
    "long reason": "field 'reason': it has 1,001 characters, more than 1,000",
    "deep": "recursion",
    "link": "it is a symbolic link",
    "folder": "it is a folder",
    "FIFO": "it is not a regular file",
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.usefixtures("exchange")
def test_nonsense_is_set_aside_and_explained_and_moves_nothing(bench: Bench, tmp_path: Path, kind: str) -> None:
    """X05."""
    operation, other = bench.start(want=Want.PAUSE, reason="lunch"), bench.start()
    before = operation.view()
    target = tmp_path / "target"
    target.write_text("mine")
    _nonsense(operation.layout.state, kind, target)
    wait_for(lambda: operation.reconcile() and rejected(operation), 2.0)
    settled(operation)

    after = operation.view()
    assert (after.want, after.reason, after.state, after.epoch) == ("pause", "lunch", "paused", before.epoch)
    assert rejected(operation) == ["state.json.rejected-1"]
    aside = operation.path / "state.json.rejected-1"
    assert stat.S_IFMT(aside.lstat().st_mode) == {
        "link": stat.S_IFLNK,
        "folder": stat.S_IFDIR,
        "FIFO": stat.S_IFIFO,
    }.get(kind, stat.S_IFREG)
    if kind in NONSENSE:
        assert aside.read_bytes() == NONSENSE[kind]
    assert target.read_text() == "mine"

    (entry,) = events(operation, "rejected")
    for text in (after.message or "", entry["message"]):
        assert "state.json.rejected-1" in text
        assert FAULTS[kind] in text
    assert asked(operation) == []
    assert history(operation) == ["queued", "paused"]
    assert other.reconcile().state is State.QUEUED


def test_each_nonsense_is_kept_under_a_number_of_its_own(bench: Bench) -> None:
    operation = bench.start()
    for number in (1, 2, 3):
        operation.layout.state.write_text(f"nonsense {number}")
        wait_for(lambda number=number: operation.reconcile() and len(rejected(operation)) == number, 2.0)
    assert [(operation.path / name).read_text() for name in rejected(operation)] == [
        "nonsense 1",
        "nonsense 2",
        "nonsense 3",
    ]


def test_the_explanation_stands_until_the_next_request(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.write_text('{"want": "stop"}')
    wait_for(lambda: operation.reconcile() and rejected(operation), 2.0)
    settled(operation)
    assert "rejected-1" in (operation.view().message or "")
    operation.pause()
    assert operation.view().message is None


def test_nonsense_in_a_displaced_file_is_set_aside_and_leaves_what_stands(bench: Bench) -> None:
    operation = bench.start()
    with operation.layout.state.open("r+") as editor:
        bench.claim(operation)
        editor.truncate()
        editor.write("nonsense")
    wait_for(lambda: operation.reconcile() and rejected(operation), 2.0)
    settled(operation)
    assert (operation.state, operation.view().want) == (State.RUNNING, "run")
    assert "rejected-1" in (operation.view().message or "")


def test_nonsense_survives_death_between_being_displaced_and_being_set_aside(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.write_text("nonsense")
    time.sleep(SETTLE_S * 1.2)
    view = StateView("run", state="queued")
    with operation.locked():
        operation.state_file._set_aside = lambda path: "nowhere"  # type: ignore[method-assign]
        operation.state_file.put(view, operation.state_file.read())
    settled(bench.other(operation))
    assert rejected(operation) == ["state.json.rejected-1"]


@pytest.mark.usefixtures("exchange")
def test_a_state_file_that_was_deleted_is_written_anew(bench: Bench) -> None:
    operation = bench.start(want=Want.PAUSE, reason="lunch")
    operation.layout.state.unlink()
    settled(operation)
    assert (operation.view().want, operation.view().reason, operation.state) == ("pause", "lunch", State.PAUSED)
    assert rejected(operation) == []


@pytest.mark.root
def test_a_state_file_that_cannot_be_read_is_nonsense_with_that_reason(bench: Bench) -> None:
    """Root reads everything; a link into nowhere stands in for what it cannot."""
    operation = bench.start()
    operation.layout.state.unlink()
    operation.layout.state.symlink_to("nowhere")
    settled(operation)
    assert rejected(operation) == ["state.json.rejected-1"]


def test_a_reason_that_has_no_utf_8_is_taken_in_like_any_other(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.state.write_text('{"want": "pause", "reason": "caf\\udce9"}')
    assert settled(operation).state is State.PAUSED
    assert rejected(operation) == []
    assert not list(operation.path.glob("run.json.rejected-*"))


# ---- operations that are over


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("want", ["run", "pause", "cancel"])
def test_an_edit_of_an_operation_that_is_over_changes_nothing_and_says_so(bench: Bench, state: str, want: str) -> None:
    """B11, B18, B48, B50."""
    operation, _ = bench.in_state(state)
    published = len(bench.published)
    own = operation.view().want
    operation.layout.state.write_text(f'{{"want": "{want}", "reason": "too late"}}')
    settled(operation)
    assert (operation.state, operation.view().want, operation.epoch()) == (state, own, 1)
    assert f"'want: {want}' changes nothing" in (operation.view().message or "")
    assert len(bench.published) == published
    assert operation.id not in bench.control.active_ids()


def test_an_edit_cannot_take_back_a_cancel_and_is_told_so(bench: Bench) -> None:
    operation, held = bench.in_state("cancelling")
    operation.layout.state.write_text('{"want": "run"}')
    settled(operation)
    assert (operation.state, operation.view().want) == (State.CANCELLING, "cancel")
    assert "cannot take back" in (operation.view().message or "")
    assert held is not None
    assert bench.commit(operation, held).state is State.CANCELLED


# ---- the file itself


@pytest.mark.usefixtures("exchange")
def test_no_displaced_file_is_left_behind(bench: Bench) -> None:
    operation = bench.start(4)
    for _ in range(3):
        operation.pause()
        operation.resume()
    bench.finish(operation)
    settled(operation)
    assert not [path.name for path in operation.path.iterdir() if path.name.startswith(".")]


def test_a_displaced_file_is_kept_for_a_moment_where_nobody_can_tell_who_has_it_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "has_writer", lambda path: None)
    operation = bench.start()
    operation.pause()
    time.sleep(SETTLE_S * 1.5)
    assert operation.reconcile().look_again
    wait_for(lambda: not operation.reconcile().look_again, 3.0)


def test_a_reader_never_sees_a_mixed_or_missing_file(bench: Bench) -> None:
    operation = bench.start(40)
    is_over = threading.Event()
    strange: list[Reading] = []

    def read_on() -> None:
        while not is_over.is_set():
            reading = operation.state_file.read()
            if reading.view is None or reading.view.state is None:
                strange.append(reading)

    reader = threading.Thread(target=read_on)
    reader.start()
    for _ in range(10):
        bench.step(operation)
        operation.pause()
        operation.resume()
    is_over.set()
    reader.join()
    assert strange == []


# ---- all at once


class Typist(threading.Thread):
    """Edits one `state.json` again and again, and keeps account of what it has itself overwritten."""

    def __init__(self, path: Path, seed: int, edits: int) -> None:
        super().__init__()
        self._path = path
        self._random = random.Random(seed)
        self._edits = edits
        self.written: list[tuple[str, str]] = []
        self.overwritten: set[str] = set()

    def run(self) -> None:
        for number in range(self._edits):
            time.sleep(self._random.random() * 0.006)
            want, reason = self._random.choice(["run", "pause"]), f"edit-{number}"
            text = f'{{"want": "{want}", "reason": "{reason}"}}'
            self._random.choice([self._in_place, self._in_place, self._by_rename, self._late])(text)
            self.written.append((want, reason))

    def _by_rename(self, text: str) -> None:
        fresh = self._path.with_name(".fresh")
        fresh.write_text(text)
        while True:  # a swap instead of a rename: what is overwritten comes out, so that account can be kept
            try:
                swap.exchange(fresh, self._path)
                break
            except FileNotFoundError:  # where there is no exchange, the name is free for an instant
                continue
        self._note(fresh.read_bytes())
        fresh.unlink()

    def _in_place(self, text: str, pause_s: float = 0.0) -> None:
        with self._path.open("r+b", buffering=0) as stream:
            time.sleep(pause_s)
            self._note(stream.read())
            stream.seek(0)
            stream.truncate()
            time.sleep(pause_s)
            stream.write(text.encode())

    def _late(self, text: str) -> None:
        self._in_place(text, self._random.random() * 0.01)

    def _note(self, content: bytes) -> None:
        self.overwritten.add(content.decode())


def overwritten_by(typist: Typist, reason: str) -> bool:
    return any(f'"{reason}"' in content for content in typist.overwritten)


def test_of_300_edits_at_any_instant_none_is_lost_and_the_last_is_applied(bench: Bench) -> None:
    """None is overwritten by tapfs unread: each is journaled, or was overwritten by the editor itself."""
    seed = int(os.environ.get("SEED", "1"))
    print("seed", seed)
    skip_unless(_can_exchange(bench), "exchange two names")
    chance = random.Random(seed)
    operation = bench.start(2000)
    typist = Typist(operation.layout.state, seed, 300)
    typist.start()
    while typist.is_alive():
        bench.now += 2  # so that every look may write the view
        if operation.reconcile().state is State.RUNNING or operation.state is State.QUEUED:
            _follow_last(bench, operation)
        if chance.random() < 0.1:
            _toggle(operation.path / "PAUSE")
    typist.join()
    (operation.path / "PAUSE").unlink(missing_ok=True)
    ended = time.monotonic()
    last = typist.written[-1]

    def told() -> str:
        tail = "\n".join(map(str, events(operation)[-6:]))
        names = sorted(path.name for path in operation.path.iterdir())
        return f"the last edits: {typist.written[-3:]}; what was taken in:\n{tail}\nthe folder: {names}"

    wait_for(lambda: (run := operation.reconcile().run) and (run.want, run.reason) == last, 2.0, told)
    assert time.monotonic() - ended < 0.2
    settled(operation)
    run = operation.reconcile().run
    assert (run.want, run.reason) == last
    journaled = {entry["reason"] for entry in events(operation, "asked")}
    lost = [reason for _, reason in typist.written if reason not in journaled and not overwritten_by(typist, reason)]
    assert lost == []
    assert rejected(operation) == []
    assert len(journaled) > 30, "they are not all overwritten by the editor"


def _can_exchange(bench: Bench) -> bool:
    for name in ("x", "y"):
        (bench.path / name).parent.mkdir(exist_ok=True)
        (bench.path / name).touch()
    return swap.exchange(bench.path / "x", bench.path / "y")


def _follow_last(bench: Bench, operation: Operation) -> None:
    held = bench.take(operation)
    if not hasattr(held, "reason"):
        bench.commit(operation, held)


def _toggle(marker: Path) -> None:
    if marker.exists():
        marker.unlink()
    else:
        marker.touch()
