"""`tapfs answer`: see what an operation waits for, and answer it.

With `--json`, an answer is the verb's object; without one it is an array of the gates that wait:

    [{"gate": "0002-approve", "name": "approve", "question": "Send 10,000 mails?", "fields": {...}, "default": null,
      "timeout_s": null, "passes": "answer", "how": "tapfs answer ...", "asked_at": "...", "expires_at": null,
      "rejected": null}]
"""

from __future__ import annotations

from dataclasses import replace

import click

from tapfs.bus.answering import OpenGate, answer, open_gates
from tapfs.bus.answers import TYPES
from tapfs.bus.fields import Json
from tapfs.bus.operation import Operation
from tapfs.bus.states import FINAL, State
from tapfs.cli import words
from tapfs.cli.answers import Reply, print_replies
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised, open_control
from tapfs.cli.options import id_argument, json_option
from tapfs.cli.printing import print_json


@click.command("answer")
@id_argument
@click.argument("given", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--gate", metavar="STEP", help="Which gate, where several wait: its label, its path or its name.")
@click.option("--go", "is_go", is_flag=True, help="Answer without KEY=VALUE: every field takes its default.")
@json_option("Print the answer as JSON; without one, what is asked.")
def answer_verb(part: str, given: tuple[str, ...], gate: str | None, is_go: bool, is_json: bool) -> None:
    """Answer a gate that an operation waits at.

    Without KEY=VALUE and --go, show what is asked. Exit code 1 when the answer does not fit, or nothing waits for it.
    """
    control = open_control()
    operation = control.find(part)
    if not given and not is_go:
        _show(operation, gate, is_json=is_json)
        return
    told = answer(operation, given, gate)
    reply = Reply(told)
    if told.changed and told.state not in (State.PAUSED, *FINAL) and not is_supervised(control):
        later = replace(told, message=f"{told.message}; it goes on as soon as a worker runs")
        reply = Reply(later, NO_WORKER_HINT.format(id=told.operation_id))
    print_replies([reply], is_json=is_json, is_array=False)


def _show(operation: Operation, name: str | None, *, is_json: bool) -> None:
    found = [one for one in open_gates(operation) if name is None or one.has_name(name)]
    if is_json:
        print_json([one.document() for one in found])
        return
    for one in found:
        click.echo(f"{operation.id}: gate {one.step.label} waits for an answer")
        for line in _lines_of(one):
            click.echo(f"  {line}")
    if not found:
        which = "no gate" if name is None else f"no gate '{name}'"
        click.echo(f"{operation.id}: it waits at {which}: it is {operation.state}")


def _lines_of(one: OpenGate) -> list[str]:
    question, request = one.question, one.request
    told = [("question", question.question)]
    told += [(name, _described(field)) for name, field in question.fields.items()]
    told.append(("until", words.moment(request.expires_at) if request.expires_at else "for ever"))
    if request.expires_at:
        told.append(("then", _at_the_limit(question.default)))
    if request.rejected:
        told.append(("rejected", request.rejected))
    told.append(("answer", one.how))
    width = max(len(name) for name, _ in told)
    return [f"{words.plain(name):<{width}}  {words.plain(text)}" for name, text in told]


def _described(field: dict[str, Json]) -> str:
    """A field in words: `yes|no, required: Is the list right?`."""
    kind = "|".join(map(str, field["choices"])) if field["choices"] else TYPES[field["type"]][1]
    default = "" if field["default"] is None else f", default {words.compact(field['default'])}"
    needed = "required" if field["required"] else f"may be left out{default}"
    return f"{kind}, {needed}" + (f": {field['description']}" if field["description"] else "")


def _at_the_limit(default: dict[str, Json] | None) -> str:
    if default is None:
        return "the step fails"
    return f"the answer is {words.words_of(default)}" if default else "it goes on"
