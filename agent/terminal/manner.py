"""The manner of both tools: plain help with whole summaries, ``-q`` and ``-v`` everywhere."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperCommand, TyperGroup, TyperOption

from agent.terminal import console
from agent.terminal.console import Volume

if TYPE_CHECKING:
    import typer

QUIET: Final = "Say only what is asked for, and errors."
VERBOSE: Final = "Say what is done, and when."


class VolumeCommand(TyperCommand):
    """A command that also takes ``-q`` and ``-v``."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params += _options()


class VolumeGroup(TyperGroup):
    """Commands that also take ``-q`` and ``-v`` before the name of one."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params += _options()


def in_one_manner(commands: typer.Typer) -> None:
    """Have all commands and groups of ``commands`` take both, and show first sentences whole.

    Typer cuts summaries off where none is given apart.
    """
    for one in commands.registered_commands:
        text = inspect.getdoc(one.callback) or ""
        one.short_help = " ".join(text.split("\n\n")[0].split())
        one.epilog = (one.epilog or "").replace("`", "") or None  # marks of Markdown
        one.cls = VolumeCommand
    for inner in commands.registered_groups:
        inner.cls = VolumeGroup
        if inner.typer_instance is not None:
            inner.short_help = inner.typer_instance.info.help
            in_one_manner(inner.typer_instance)


def _options() -> list[TyperOption]:
    return [
        _option("-q", "--quiet", Volume.QUIET, QUIET),
        _option("-v", "--verbose", Volume.VERBOSE, VERBOSE),
    ]


def _option(short: str, name: str, volume: Volume, words: str) -> TyperOption:
    def heard(_context: object, _parameter: object, given: bool) -> None:
        if given:
            console.set_volume(volume)

    return TyperOption(
        param_decls=[short, name], is_flag=True, default=False, callback=heard,
        expose_value=False, help=words,
    )  # fmt: skip
