"""`tapfs operations`: what can be started, as the app declares it."""

from __future__ import annotations

import click

from tapfs import settings
from tapfs.bus.document import MASK
from tapfs.bus.fields import Json
from tapfs.cli import words
from tapfs.cli.options import json_option
from tapfs.cli.printing import print_json, say
from tapfs.flow.bus import Definition
from tapfs.flow.loading import load_bus
from tapfs.flow.parameters import Parameter


@click.command("operations")
@json_option("Print a JSON array, one object an operation.")
def operations_verb(is_json: bool) -> None:
    """Show what can be started.

    Each with its arguments, their types and defaults, as the app declares them.
    """
    bus = load_bus(settings.app_name())
    definitions = sorted(bus.definitions.values(), key=lambda one: one.name)
    if is_json:
        print_json([_document(one) for one in definitions])
        return
    if not definitions:
        say(f"app '{bus.app.main}' defines no operations", "define one with @bus.operation")
    for place, definition in enumerate(definitions):
        if place:
            click.echo()
        click.echo(definition.usage)
        if definition.description:
            click.echo(f"  {definition.description}")
        for parameter in definition.parameters:
            click.echo(f"    {parameter.name:<12} {_told(parameter)}")


def _document(definition: Definition) -> dict[str, Json]:
    """An operation as JSON: `{"operation", "description", "usage", "parameters": [{"name", "type", ...}]}`."""
    return {
        "operation": definition.name,
        "description": definition.description,
        "usage": definition.usage,
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter.kind,
                "required": parameter.required,
                "default": _default(parameter),
                "choices": list(parameter.choices),
                "is_list": parameter.is_list,
                "is_optional": parameter.is_optional,
                "is_masked": parameter.is_masked,
            }
            for parameter in definition.parameters
        ],
    }


def _default(parameter: Parameter) -> Json:
    is_hidden = parameter.is_masked and parameter.default is not None
    return MASK if is_hidden else parameter.default


def _told(parameter: Parameter) -> str:
    if parameter.required:
        return f"{parameter.kind}, required"
    default = _default(parameter)
    return f"{parameter.kind}, default {'none' if default is None else words.compact(default)}"
