"""What README and docs/ say is what the code does: their examples run, their tables are those of the code."""

import ast
import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import pytest

from support import Processes, wait_for
from support.bench import Bench
from support.trees import STEP, wide
from tapfs import settings
from tapfs.bus import planfile, records
from tapfs.bus.answering import answer
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.decide import Recovery
from tapfs.bus.fields import Field, check_object
from tapfs.bus.force import GRACE_S
from tapfs.bus.gatefiles import GateRequest
from tapfs.bus.layout import DRAIN, KNOWN, STOPPING
from tapfs.bus.locks import SingleHolder
from tapfs.bus.losses import give_away
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONCURRENCY, CONTINUE, Plan, Sequence, Step
from tapfs.bus.planfile import decode_plan, encode_plan
from tapfs.bus.questions import question_from
from tapfs.bus.reconcile import WORKER_LOST
from tapfs.bus.records import Checkpoint, Failure
from tapfs.bus.repair import repair
from tapfs.bus.saved import note_begun, write_checkpoint
from tapfs.bus.states import TABLE, State, Want
from tapfs.bus.steps import INTERRUPTED_TOO_OFTEN, commit_step, fail_step, interrupt_step, release_step
from tapfs.bus.verify import verify_operations
from tapfs.bus.workers import WorkerFolder
from tapfs.cli.program import VERBS
from tapfs.cli.verbs.list import _HEADS as HEADS
from tapfs.flow import message, pulse, supervisor
from tapfs.flow.builtin import built_in_bus
from tapfs.flow.options import KEPT_OPTIONS
from tapfs.flow.plans import _DEEPEST

PROJECT = Path(__file__).parent.parent
README = PROJECT / "README.md"
FORMAT = PROJECT / "docs" / "format.md"
DESIGN = PROJECT / "docs" / "design.md"
OPERATIONS = PROJECT / "docs" / "operations.md"
GUARANTEES = PROJECT / "docs" / "guarantees.md"
WORKFLOWS = PROJECT / "docs" / "workflows.md"
DOCS = [FORMAT, DESIGN, OPERATIONS, GUARANTEES, WORKFLOWS]
SMALL_PAGES = [PROJECT / name for name in ("CHANGELOG.md", "control/README.md", "examples/canvas/README.md")]
PAGES = [README, *SMALL_PAGES, *DOCS]
ID = re.compile(r"[0-9]{8}-[0-9]{6}-([a-z0-9_]+)-[a-z0-9]{6}")

#: A line of `*.once.jsonl`, which is read leniently: only its key counts.
ONCE = {name: Field((kind,), required=True) for name, kind in (("key", str), ("at", str), ("attempt", int))}

#: The record behind each heading of format.md that has a table of fields; of the rest, the fields' own specification.
SPECIFICATIONS = {
    "workers/<name>/": [records.WorkerCard.specification()],
    "operation.json": [records.Identity.specification()],
    "workflow.json": [planfile._PLAN, planfile._STEP, planfile._SEQUENCE, planfile._GROUP],
    "state.json": [records.StateView.specification()],
    "run.json": [records.Run.specification()],
    "claims/<path>": [records.Claim.specification(), records.Holder.specification()],
    "steps/<path>-<name>.json": [records.Commit.specification()],
    "steps/<path>-<name>.checkpoint.json": [records.Checkpoint.specification()],
    "steps/<path>-<name>.once.jsonl": [ONCE],
    "gates/<path>-<name>/request.json": [GateRequest.specification()],
    "error.json": [records.Failure.specification()],
    "The message": [message._HEADER_FIELDS],
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the comment right above it if there is one, and its line."""

    language: str
    text: str
    mark: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    found, lines = [], iter(enumerate(page.read_text().splitlines(), 1))
    mark = ""
    for number, line in lines:
        if line.startswith("```"):
            inner = []
            for _, text in lines:
                if text == "```":
                    break
                inner.append(text)
            found.append(Block(line[3:], "\n".join(inner) + "\n", mark, number))
        comment = re.fullmatch(r"<!-- (.*) -->", line)
        mark = comment.group(1) if comment else ""
    return found


def python(*arguments: str | Path, folder: Path | None = None) -> str:
    """Run this Python; returns what it printed to stdout."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def marked(page: Path, mark: str, language: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.mark == mark and block.language == language]


def write_files(page: Path, folder: Path) -> None:
    """Write the blocks that are whole files."""
    for block in blocks_of(page):
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text)


def sections_of(page: Path) -> dict[str, str]:
    """Text by heading, of any level."""
    parts = re.split(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {head.replace("\\", ""): text for head, text in zip(parts[1::2], parts[2::2], strict=True)}


def tables_in(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Head and rows of each table, cell by cell."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
        elif found[-1]:
            found.append([])
    return [(rows[0], rows[2:]) for rows in found if rows]


def table_in(text: str, first_head: str) -> list[list[str]]:
    """Rows of the one table whose first column is called so."""
    (rows,) = [rows for head, rows in tables_in(text) if head[0] == first_head]
    return rows


def field_tables(text: str) -> list[list[list[str]]]:
    """Rows of the tables of fields: name, type, what it is when absent, meaning."""
    return [rows for head, rows in tables_in(text) if head == ["field", "type", "when absent", "meaning"]]


def console(block: Block) -> list[tuple[str, list[str]]]:
    """Commands of a console block, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def run_console(block: Block, folder: Path) -> list[list[str]]:
    """Run a block's commands in one shell, as typed; returns the lines that each printed."""
    script = [f'tapfs() {{ "{sys.executable}" -m tapfs "$@"; }}']
    for command, _ in console(block):
        script += ["echo '@@@'", f"{command} || exit 1"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return [part.strip("\n").splitlines() for part in done.stdout.split("@@@\n")[1:]]


def check_console(block: Block, folder: Path) -> None:
    """What is shown must be how the lines begin that are printed; ids differ but for the operation's name."""
    for (command, shown), printed in zip(console(block), run_console(block, folder), strict=True):
        if not shown:
            continue
        plain = [ID.sub(r"<\1>", line) for line in printed]
        expected = [ID.sub(r"<\1>", line) for line in shown]
        assert len(plain) == len(expected), (command, printed)
        assert [line[: len(begin)] for line, begin in zip(plain, expected, strict=True)] == expected, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_python_block_is_run_by_a_test_and_is_python(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            assert block.mark.startswith(("file: ", "run")), f"{page}:{block.line} is neither a file nor run"
            ast.parse(block.text)
        if block.language == "json":
            json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        assert linked.is_relative_to(PROJECT)
        if anchor:
            heads = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in sections_of(linked)]
            assert anchor in heads, target


def test_the_readme_example_runs_in_a_worker_from_the_shell_and_from_python(processes: Processes) -> None:
    folder = processes.directory
    write_files(README, folder)
    (folder / "data").mkdir()
    python(PROJECT / "data" / "make_people.py", "data/people.csv", folder=folder)
    worker = processes.tapfs("--app", "shop:app", "worker", "--concurrency", "1")
    worker.wait_for_output("supervising")
    (shell,) = marked(README, "run with a worker", "console")
    check_console(shell, folder)
    (script,) = marked(README, "run with a worker", "python")
    (folder / "script.py").write_text(script.text)
    run = processes.python("script.py")
    assert run.wait(60) == 0, run.tail
    comments = re.findall(r"# (\{.*?\})", script.text)
    printed = run.output.splitlines()
    assert len(comments) == len(printed) == 2
    assert all(line.startswith(comment) for line, comment in zip(printed, comments, strict=True))


def test_the_readme_example_is_counted_as_by_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(README, tmp_path)
    (tmp_path / "few.csv").write_text('first_name,last_name,gender,company\na,b,,X\nc,d,,"Y, Z"\ne,f,,X\n')
    code = "import shop; print(shop.largest(shop.count('few.csv'), 1))"
    assert python("-c", code, folder=tmp_path) == "{'X': 2}\n"
    assert not (tmp_path / "control").exists()


def test_the_examples_of_operations_md_run(tmp_path: Path) -> None:
    write_files(OPERATIONS, tmp_path)
    (block,) = marked(OPERATIONS, "run", "console")
    shown = [(command, lines) for command, lines in console(block)]
    printed = run_console(block, tmp_path)
    for (_, lines), output in zip(shown, printed, strict=True):
        assert lines[-1] in output
    code = "import nightly; plan = nightly.start('2026-01-01', '2026-01-02').plan(); print(plan.clause, plan.callback)"
    assert python("-c", code, folder=tmp_path) == "nightly:is_day nightly:tell\n"


def test_the_examples_of_workflows_md_run(tmp_path: Path) -> None:
    write_files(WORKFLOWS, tmp_path)
    for block in marked(WORKFLOWS, "run", "console"):
        check_console(block, tmp_path)


def test_the_tests_that_workflows_md_shows_pass(tmp_path: Path) -> None:
    write_files(WORKFLOWS, tmp_path)
    # A folder of its own for what it makes: pytest clears the shared one of what other runs have left, at its end.
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "--basetemp", tmp_path / "made")
    told = python("-m", "pytest", *options, "test_companies.py", folder=tmp_path)
    assert "2 passed" in told
    assert not (tmp_path / "control").exists()


def test_the_gate_of_workflows_md_is_answered_from_the_shell(processes: Processes) -> None:
    folder = processes.directory
    write_files(WORKFLOWS, folder)
    (folder / "people.csv").write_text("address\n" + "ada@example.com\n" * 3)
    worker = processes.tapfs("--app", "mailing:app", "worker", "--concurrency", "1")
    worker.wait_for_output("supervising")
    (block,) = marked(WORKFLOWS, "run with a worker", "console")
    check_console(block, folder)


def test_a_loop_that_says_what_comes_next_and_a_fold_count_alike_over_a_real_file(tmp_path: Path) -> None:
    write_files(WORKFLOWS, tmp_path)
    rows = (f"{number},b,c,company {number % 400}\n" for number in range(70_000))
    (tmp_path / "people.csv").write_text("first_name,last_name,gender,company\n" + "".join(rows))
    code = (
        "from tapfs import testing\nimport {0}\nwith testing.bus({0}.app) as bus:\n"
        "    operation = bus.start('companies', path='people.csv')\n    testing.run(operation)\n"
        "    print(len([step for step in operation.plan().steps if step.name == 'read']), operation.result)\n"
    )
    by_loop, by_fold = (python("-c", code.format(module), folder=tmp_path).split(" ", 1) for module in ("loop", "fold"))
    assert (by_loop[0], by_fold[0]) == ("3", "1"), "a step a round, and one for all"
    assert by_loop[1] == by_fold[1]
    assert by_loop[1].count(":") == 400


def test_the_options_that_workflows_md_names_are_those_that_are_kept() -> None:
    rows = table_in(sections_of(WORKFLOWS)["Options"], "what it is about")
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[1])} == KEPT_OPTIONS


def test_the_limits_that_workflows_md_names_are_those_of_the_code() -> None:
    assert f"At most {CONCURRENCY} steps of an operation are out at a time" in WORKFLOWS.read_text()
    assert f"nested more than {_DEEPEST} deep" in WORKFLOWS.read_text()


def test_masked_arguments_of_the_example_are_not_shown(tmp_path: Path) -> None:
    write_files(OPERATIONS, tmp_path)
    (block,) = marked(OPERATIONS, "run", "console")
    run_console(block, tmp_path)
    shown = python("-m", "tapfs", "show", "backfill", folder=tmp_path)
    assert "s3cr3t" not in shown
    assert "token=***" in shown


def test_the_readme_names_the_verbs_of_the_help_in_their_order() -> None:
    rows = table_in(sections_of(README)["Command line"], "verb")
    named = [row[0].strip("`").split()[0] for row in rows]
    assert named == list(VERBS)
    listed = re.findall(r"^  ([a-z]+)  ", python("-m", "tapfs", "--help").partition("Verbs:")[2], flags=re.MULTILINE)
    assert listed == named


def test_the_table_of_the_readme_has_the_columns_of_tapfs_list() -> None:
    (heads,) = [line.split() for line in README.read_text().splitlines() if line.startswith("ID  ")]
    assert tuple(heads) == HEADS


def test_every_verb_of_the_readme_takes_the_options_named_there() -> None:
    rows = table_in(sections_of(README)["Command line"], "verb")
    for call, text in rows:
        verb = call.strip("`").split()[0]
        done = subprocess.run(
            [sys.executable, "-m", "tapfs", verb, "--help"], capture_output=True, text=True, check=True
        )
        for option in re.findall(r"--[a-z]+", call + text):
            assert option in done.stdout, (verb, option)


def test_the_readme_names_the_variables_and_their_defaults() -> None:
    rows = {row[0].strip("`"): row[1] for row in table_in(README.read_text(), "variable")}
    names = {value for name, value in vars(settings).items() if name.endswith("_VARIABLE")}
    recovery = {f"TAPFS_{field.name.upper()}": f"`{getattr(Recovery(), field.name):g}`" for field in fields(Recovery)}
    assert rows.keys() == names | recovery.keys()
    assert rows.items() >= recovery.items()
    assert rows["TAPFS_CONTROL"] == f"`{settings.control_path()}`"
    assert rows["TAPFS_DATA"] == f"`{settings.data_path()}`"
    (docstring,) = tables_in(settings.__doc__ or "")
    assert [row[0] for row in docstring[1]] == [f"`{name}`" for name in rows]


@pytest.mark.parametrize("page", [README, GUARANTEES], ids=lambda page: str(page.relative_to(PROJECT)))
def test_the_makefile_has_the_targets_and_variables_that_a_page_names(page: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for target, variable in re.findall(r"[`$] ?make ([a-z]+)(?: ([A-Z]+)=)?", page.read_text()):
        assert f"\n{target}:" in makefile, target
        assert not variable or f"\n{variable} ?=" in makefile, variable


def test_every_module_that_the_design_names_is_there_with_what_it_names_in_it() -> None:
    named = re.findall(r"`((?:bus|flow|cli)/[\w/]+\.py)`(?: \(((?:`[^`]+`(?:, )?)+)\))?", DESIGN.read_text())
    assert len(named) > 20
    for path, inside in named:
        text = (PROJECT / "tapfs" / path).read_text()
        for name in re.findall(r"`([^`]+)`", inside):
            assert re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", text), (path, name)


def test_the_table_of_states_is_that_of_the_code() -> None:
    rows = table_in(sections_of(DESIGN)["States"], "from")
    documented = {State(one): set(row[1].split(", ")) for row in rows for one in row[0].split(", ")}
    assert documented == {state: set(following) for state, following in TABLE.items()}


def test_the_design_names_the_delays_of_the_code() -> None:
    text = " ".join(sections_of(DESIGN)["Recovery"].split())
    delays = Recovery()
    assert [delays.delay_s(number) for number in (1, 2, 3, 4, 9)] == [10, 20, 30, 30, 30]
    assert "10 s after it was published, then 20, and every 30 s" in text
    assert delays.max_crashes == 3
    assert "lost three holders" in text
    assert delays.max_interruptions == 10
    assert "more than ten times" in text
    text = " ".join(sections_of(DESIGN)["Signs of life"].split())
    assert f"every {pulse.INTERVAL_S:g} s" in text
    assert f"for {delays.silent_after_s:g} s" in text
    assert f"{2 * supervisor.SCAN_INTERVAL_S:g} s of it count" in text
    assert f"{GRACE_S:g} s" in sections_of(DESIGN)["Force"]
    assert f"for {supervisor.SILENT_SUPERVISOR_S:g} s" in " ".join(sections_of(DESIGN)["Who reconciles"].split())
    text = " ".join(sections_of(FORMAT)["supervisor.lock"].split())
    assert f"every {supervisor.SCAN_INTERVAL_S:g} s" in text
    assert f"no such sign for {supervisor.SILENT_SUPERVISOR_S:g} s" in text


# --- docs/format.md ---------------------------------------------------------------------------------------------------


def type_of(field: Field) -> str:
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "object", list: "list"}
    named = [words[kind] for kind in field.kinds if kind is not type(None)]
    if len(named) == len(words):
        return "any"
    return " or ".join([", ".join(named), *(["null"] if type(None) in field.kinds else [])])


def absent_of(field: Field) -> str:
    return "required" if field.required else f"`{json.dumps(field.default)}`"


@pytest.mark.parametrize("head", SPECIFICATIONS)
def test_the_fields_of_each_record_are_documented_with_their_types_and_defaults(head: str) -> None:
    tables = field_tables(sections_of(FORMAT)[head])
    assert len(tables) == len(SPECIFICATIONS[head])
    for table, specification in zip(tables, SPECIFICATIONS[head], strict=True):
        documented = [(row[0].strip("`"), row[1], row[2]) for row in table]
        assert documented == [(name, type_of(field), absent_of(field)) for name, field in specification.items()]


def test_every_table_of_fields_is_held_against_the_code() -> None:
    heads = {head for head, text in sections_of(FORMAT).items() if field_tables(text)}
    assert heads == SPECIFICATIONS.keys()
    fields = {name for tables in SPECIFICATIONS.values() for table in tables for name in table}
    for record in records.Record.__subclasses__():
        assert record.specification().keys() <= fields, record


def test_the_types_of_failures_that_tapfs_makes_are_documented() -> None:
    rows = table_in(sections_of(FORMAT)["error.json"], "type")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named >= {WORKER_LOST, INTERRUPTED_TOO_OFTEN}
    code = "".join(path.read_text() for path in (PROJECT / "tapfs").rglob("*.py"))
    assert all(re.search(rf"\b{name}\b", code) for name in named), named


def test_the_signs_of_life_are_those_of_the_code() -> None:
    text = " ".join(sections_of(FORMAT)["claims/<path>"].split())
    assert f"set to now every {pulse.INTERVAL_S:g} s" in text
    assert f"no new time for {Recovery().silent_after_s:g} s" in text


def test_the_words_of_wants_and_states_are_documented() -> None:
    rows = {row[0].strip("`"): row[3] for row in field_tables(sections_of(FORMAT)["state.json"])[0]}
    assert set(re.findall(r"`([a-z]+)`", rows["state"])) == set(State)
    assert set(re.findall(r"`([a-z]+)`", rows["want"].partition(":")[0])) == set(Want)


def test_examples_of_state_json_are_valid() -> None:
    examples = [block.text for block in blocks_of(FORMAT) if '"want"' in block.text and block.language == "json"]
    examples += re.findall(r'^\{\n  "want".*?^\}', README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        view = records.StateView.decode(example.encode(), strict=True)
        assert view.encode().decode().strip() == example.strip()


def test_the_example_of_workflow_json_is_a_plan_as_it_is_written() -> None:
    (example,) = [block.text for block in blocks_of(FORMAT) if block.text.startswith('{"nth"')]
    plan = decode_plan(example.encode())
    assert not plan.is_edited
    assert encode_plan(plan).decode() == example


def test_the_example_of_a_gates_question_is_one() -> None:
    (example,) = [json.loads(block.text) for block in blocks_of(FORMAT) if '"passes"' in block.text]
    assert question_from(example).document() == example


def documented_tree() -> tuple[set[str], set[str]]:
    """The names that format.md's tree has in the control directory, and in an operation's folder."""
    tree = next(block.text for block in blocks_of(FORMAT) if block.text.startswith("control/"))
    control = set(re.findall(r"^  (\S+)", tree, flags=re.MULTILINE))
    return control, names_below("operations/<id>/")


def names_below(folder: str) -> set[str]:
    """The names that format.md's tree has below that folder of the control directory."""
    tree = next(block.text for block in blocks_of(FORMAT) if block.text.startswith("control/"))
    inside = re.split(r"^  (\S+)\n", tree, flags=re.MULTILINE)
    return set(inside[inside.index(folder) + 1].split())


def generic(path: Path, folder: Path) -> str:
    """A file's name in an operation's folder as format.md writes it."""
    name = str(path.relative_to(folder))
    name = re.sub(r"^claims/[0-9/]+$", "claims/<path>", name)
    name = re.sub(r"^(steps|gates)/[0-9/]+-\w+([./])", r"\1/<path>-<name>\2", name)
    name = re.sub(r"^steps/[0-9/]+\.error", "steps/<path>.error", name)
    name = re.sub(r"^attic/(epoch|repair)-[0-9]+/.*$", r"attic/\1-<n>/", name)
    name = re.sub(r"^attic/claim-[0-9]+\.", "attic/claim-<path>.", name)
    return re.sub(r"\.rejected-[0-9]+$", ".rejected-<n>", name)


class Life:
    """An operation of two steps, and one of groups and a gate, that go through all that leaves a file or a line."""

    def __init__(self, folder: Path) -> None:
        self.names: set[str] = set()
        self.hidden: set[str] = set()
        self.control = Control(folder, publisher=lambda publication: None, actor="test")
        steps = [Step(path, name, f"test.{name}") for path, name in (("0001", "read"), ("0002", "save"))]
        self.operation = self.control.start(NewOperation("life", Plan(Sequence(tuple(steps))), {}, owner="ada"))
        self.live()
        bench = Bench(folder)
        question = {"name": "approve", "question": "May it?", "fields": {"ok": {"type": "boolean"}}}
        gate = Step("", "approve", "tapfs.gate", kwargs=question)
        self.tree = bench.start_tree(wide(2, on_error=CONTINUE), gate, wide(2), STEP)
        self.live_in_groups(bench)
        self.entries = [entry for one in (self.operation, self.tree) for entry in one.journal.entries()]

    def look(self) -> None:
        for folder in (self.operation.path, self.tree.path) if hasattr(self, "tree") else (self.operation.path,):
            for base, folders, names in os.walk(folder):
                for name in [*names, *(inside for inside in folders if "rejected" in inside)]:
                    if name.startswith("."):
                        self.hidden.add(re.sub(r"[0-9a-f]{4,}(-[0-9a-f]+)?", "x", name))
                    else:
                        self.names.add(generic(Path(base, name), folder))

    def claim(self, path: str, epoch: int, attempt: int = 1) -> HeldClaim:
        held = claim_step(self.operation, path, epoch, attempt, "worker")
        assert isinstance(held, HeldClaim)
        return held

    def live(self) -> None:
        operation, path = self.operation, self.operation.path
        claim_step(operation, "0001", 1, 9, "worker")  # dropped
        held = self.claim("0001", 1)
        assert write_checkpoint(operation, held, Checkpoint(done=1.0))
        assert note_begun(operation, held, "mail-ada@example.com")
        (self.begun,) = [json.loads(line) for line in operation.layout.once(held.step).read_text().splitlines()]
        interrupt_step(operation, held, "the worker got SIGTERM")
        held = self.claim("0001", 1, 2)
        assert give_away(operation, "0001", 1, 2, "no sign of life for 60 s")
        held.release()
        held = self.claim("0001", 1, 3)
        self.look()
        (path / "PAUSE").write_text("lunch")
        release_step(operation, held)
        assert operation.state is State.PAUSED
        self.look()
        (path / "PAUSE").unlink()
        operation.layout.claim("0001").mkdir(parents=True)
        (path / "state.json").write_text("nonsense")
        (path / "pause").touch()
        wait_for(lambda: bool(operation.reconcile()) and (path / "state.json.rejected-1").exists())
        (path / "pause").unlink()
        (path / "run.json").write_text("nonsense")
        operation.reconcile()
        held = self.claim("0001", operation.epoch())
        fail_step(operation, held, Failure(type="ValueError"))
        assert operation.state is State.FAILED
        self.look()
        operation.resume()
        operation.pause("by a verb")
        operation.resume()
        for step in ("0001", "0002"):
            commit_step(operation, self.claim(step, operation.epoch()), 1, "2026-11-22T10:15:07.120Z")
        assert operation.state is State.SUCCEEDED
        (path / "CANCEL").touch()
        (path / "steps" / "0001-read.checkpoint.json").write_text("nonsense")
        repair(self.control, lambda: (1, verify_operations([operation])))
        self.look()

    def live_in_groups(self, bench: Bench) -> None:
        tree, gate = self.tree, self.tree.path / "gates" / "0002-approve"
        bench.fail_at(tree, "0001/0001")
        bench.do(tree, "0001/0002")
        assert tree.state is State.WAITING
        (gate / "answer.json").write_text('{"ok": "perhaps"}')
        wait_for(lambda: bool(tree.reconcile()) and (gate / "answer.json.rejected-1").exists())
        answer(tree, {"ok": True})
        first, second = bench.claim_at(tree, "0003/0001"), bench.claim_at(tree, "0003/0002")
        self.look()
        bench.fail_held(tree, first)
        bench.fail_held(tree, second)
        assert tree.state is State.FAILED
        tree.retry("0001/0001")
        bench.do(tree, "0001/0001")
        tree.pause()
        tree.rewind("0001")
        self.look()


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return Life(tmp_path_factory.mktemp("life"))


def test_every_file_of_an_operation_is_documented_and_none_is_missing(life: Life) -> None:
    _, documented = documented_tree()
    assert life.names == documented


def test_every_file_has_a_section_of_its_own() -> None:
    _, documented = documented_tree()
    heads = set(sections_of(FORMAT)) | {"PAUSE", "CANCEL"}
    assert "PAUSE and CANCEL" in heads
    assert documented <= heads


def test_the_names_that_the_code_knows_are_documented() -> None:
    _, documented = documented_tree()
    assert {name.partition("/")[0] for name in documented if "rejected" not in name} == KNOWN


def test_a_line_of_once_is_as_documented(life: Life) -> None:
    assert check_object(life.begun, ONCE) == life.begun


def test_hidden_files_are_named_as_documented(life: Life) -> None:
    assert life.hidden
    assert life.hidden <= {".state.json.x.x.x", ".state.json.x.x.x.x"}


#: Fields that a line of the journal may do without.
SOMETIMES = {"asked": {"superseded"}, "created": {"forked_from"}, "rejected": {"step"}}


def test_every_line_of_a_journal_has_the_documented_fields_and_every_event_occurs(life: Life) -> None:
    rows = table_in(sections_of(FORMAT)["journal.jsonl"], "event")
    documented = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows}
    assert {entry["event"] for entry in life.entries} == documented.keys()
    for entry in life.entries:
        own = entry.keys() - {"at", "event", "by", "state"}
        assert len(own) == len(entry) - 4
        some = SOMETIMES.get(str(entry["event"]), set())
        assert own | some == documented[entry["event"]] | some, entry


@pytest.fixture
def published(tmp_path: Path) -> tuple[Operation, bytes]:
    """An operation whose first message waits in the embedded broker, and that message."""
    bus = built_in_bus(tmp_path / "control")
    operation = bus.start("countdown", steps=1000, seconds=0.0)
    (path,) = (tmp_path / "control" / "broker" / "queues" / "tapfs").iterdir()
    return operation, path.read_bytes()


def test_the_message_is_as_documented(published: tuple[Operation, bytes]) -> None:
    operation, content = published
    text = sections_of(FORMAT)["The message"]
    sent = json.loads(content)
    (example,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)]
    assert sent["headers"]["tapfs"].keys() == example.keys()
    assert sent["headers"]["tapfs"] == {"operation": operation.id, "step": "0001", "epoch": 1, "attempt": 1}
    assert sent["headers"]["id"] == f"{operation.id}.0001.1.1.1"
    assert json.loads(sent["body"])[:2] == [[], {}]


def test_the_message_is_under_a_kilobyte_for_a_thousand_steps(published: tuple[Operation, bytes]) -> None:
    """X08."""
    assert len(published[1]) < 1000


def test_every_file_of_the_control_directory_is_documented_and_none_is_missing(
    published: tuple[Operation, bytes],
) -> None:
    operation, _ = published
    control = operation.control
    assert SingleHolder(control.supervisor_lock).take()
    control.pause.touch()
    worker = WorkerFolder.enter(control, "celery@host", operation.now())
    worker.stop("the worker got SIGTERM")
    (worker.path / DRAIN).touch()
    assert {path.name for path in worker.path.iterdir()} == names_below("workers/<name>/")
    assert names_below("workers/<name>/") == {"worker.json", DRAIN, STOPPING}
    documented, _ = documented_tree()
    found = {path.name for path in control.folder.iterdir()}
    assert found == {name.partition("/")[0] for name in documented}
    assert control.format.read_bytes() == b"tapfs 1\n"
    rows = table_in(sections_of(FORMAT)["broker/"], "below `broker/`")
    named = {name.partition("/")[0] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    assert {path.name for path in control.broker.iterdir()} <= named


def test_permissions_are_those_documented(tmp_path: Path) -> None:
    before = os.umask(0o007)
    try:
        life = Life(tmp_path / "control")
        SingleHolder(life.operation.control.supervisor_lock).take()
    finally:
        os.umask(before)
    for path in [*(tmp_path / "control").rglob("*")]:
        if path.name != "CANCEL" and not path.name.startswith("state.json.rejected"):
            assert path.stat().st_mode & 0o777 == (0o770 if path.is_dir() else 0o660), path


# --- docs/guarantees.md -----------------------------------------------------------------------------------------------

NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def laws_in(path: str) -> set[str]:
    """The names of the tests in a file, also of those in classes."""
    tree = ast.parse((PROJECT / path).read_text())
    found = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    return {name for name in found if name.startswith("test_")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = NAMED_TEST.findall(page.read_text())
    assert [(path, name) for path, name in named if not (PROJECT / path).exists() or name not in laws_in(path)] == []
    assert page != GUARANTEES or len(named) > 50


@pytest.mark.parametrize("first_head", ["promise", "how it ends"])
def test_every_promise_and_every_end_names_a_test(first_head: str) -> None:
    rows = [row for head, rows in tables_in(GUARANTEES.read_text()) if head[0] == first_head for row in rows]
    assert rows
    assert [row[0] for row in rows if not NAMED_TEST.search(row[-1])] == []


def test_the_examples_of_guarantees_md_run(tmp_path: Path) -> None:
    write_files(GUARANTEES, tmp_path)
    for block in marked(GUARANTEES, "run", "console"):
        for (command, shown), printed in zip(console(block), run_console(block, tmp_path), strict=True):
            assert all(line in printed for line in shown), (command, printed)


#: Runs an operation whose third side effect is the last thing its process does.
DIE_AT_THIRD = """
import os, sys
import {module} as site
from tapfs.flow import foreground

calls, effect = [], site.{effect}

def last(*args):
    effect(*args)
    calls.append(args)
    if len(calls) == 3:
        os._exit(9)

site.{effect} = last
foreground.start(site.bus, "{operation}", ["path=people.csv"]).run()
"""


def die_and_resume(folder: Path, module: str, effect: str, operation: str) -> None:
    write_files(GUARANTEES, folder)
    people = "".join(f"p{number}@example.com,{number}\n" for number in range(5))
    (folder / "people.csv").write_text("address,amount\n" + people)
    code = DIE_AT_THIRD.format(module=module, effect=effect, operation=operation)
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, timeout=60, check=False).returncode == 9
    python("-m", "tapfs", "--app", f"{module}:app", "run", "--resume", operation, folder=folder)


def test_the_example_of_once_does_each_side_effect_at_most_once_over_a_crash(tmp_path: Path) -> None:
    die_and_resume(tmp_path, "mails", "send", "mails")
    assert (tmp_path / "sent.txt").read_text().split() == [f"p{number}@example.com" for number in range(5)]


def test_the_example_of_idempotency_keys_charges_each_customer_once_over_a_crash(tmp_path: Path) -> None:
    die_and_resume(tmp_path, "payments", "charge", "payments")
    with sqlite3.connect(tmp_path / "payments.db") as database:
        rows = database.execute("select customer, amount from payments order by customer").fetchall()
    assert rows == [(f"p{number}@example.com", number) for number in range(5)]
