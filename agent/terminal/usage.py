"""What is said of a mistake in the command line: the right form, and where all forms are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.errors import InputError

if TYPE_CHECKING:
    import typer

_LEFT_OVER = re.compile(r"Got unexpected extra argument\(?s?\)? \((.*)\)", re.DOTALL)
_NO_COMMAND = re.compile("No such command")
_VALUE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def usage_error(error: typer.TyperException, tool: str) -> InputError:
    """A mistake in the command line of ``tool``, in our form.

    The hint is an example of the command, where it has one.
    """
    context = getattr(error, "ctx", None)
    path = context.command_path if context else tool
    more = f"`{path} --help` shows all options." if path != tool else f"See `{tool} --help`."
    unknown = getattr(error, "option_name", None)
    if unknown and context is not None and context.parent is None:
        first = f"Options follow the command, as in `{tool} status {unknown}`."
        return InputError(error.format_message(), f"{first} {more}")
    example = (getattr(context.command, "epilog", None) or "") if context and path != tool else ""
    if context and (left_over := _LEFT_OVER.fullmatch(error.format_message())):
        takes_words = any(p.param_type_name == "argument" for p in context.command.params)
        options_only = "" if takes_words else f"`{path}` takes options only. {example}."
        return _one_too_many(left_over[1], more, options_only)
    if context and _NO_COMMAND.match(error.format_message()):
        return InputError(error.format_message(), f"{_commands(context, tool)} {more}".lstrip())
    return InputError(error.format_message(), f"{example}. {more}" if example else more)


def _commands(context: Any, tool: str) -> str:
    """Which there are, where they are few."""
    if context.parent is None:
        return f"The help of a command: `{tool} COMMAND --help`."
    return f"Commands: {', '.join(context.command.commands)}."


def _one_too_many(words: str, more: str, options_only: str) -> InputError:
    message = f"not expected here: {words}"
    value = _VALUE.fullmatch(words.split()[0])
    if options_only or value is None:
        return InputError(message, f"{options_only or 'Values with spaces need quotes.'} {more}")
    return InputError(message, f"Repeat the option for each: --size {value[0]}. {more}")
