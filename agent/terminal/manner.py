"""The manner of both tools: plain help with whole summaries, ``-q`` and ``-v`` everywhere."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

from typer import TyperException
from typer.core import TyperCommand, TyperGroup, TyperOption

from agent.terminal import console
from agent.terminal.console import Volume

if TYPE_CHECKING:
    import typer

_ONE_DASH: Final = re.compile(r"-[A-Za-z][\w-]+(=.*)?", re.DOTALL)
QUIET: Final = "Say only what is asked for, and errors."
VERBOSE: Final = "Say what is done, and when."


class _Manner(TyperCommand if TYPE_CHECKING else object):  # type: ignore[misc]
    """What commands and groups have in common: ``-q`` and ``-v``, and mistakes that say where."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params += _options()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of a command line; a mistake knows the command that it was made in."""
        known = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        for word in () if ctx.resilient_parsing else args:
            if _ONE_DASH.fullmatch(word) and (meant := f"-{word.partition('=')[0]}") in known:
                ctx.fail(f"No such option: {word}. Did you mean {meant}?")
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except TyperException as error:
            if getattr(error, "ctx", ctx) is None:  # of an option that lacks its value
                error.ctx = ctx  # type: ignore[attr-defined]
            raise
        return rest


class MannerCommand(_Manner, TyperCommand):
    """A command in the manner of both tools."""


class MannerGroup(_Manner, TyperGroup):
    """A group of commands in the manner of both tools."""


def in_one_manner(commands: typer.Typer) -> None:
    """Have all commands and groups of ``commands`` take both, and show first sentences whole.

    Typer cuts summaries off where none is given apart.
    """
    for one in commands.registered_commands:
        text = inspect.getdoc(one.callback) or ""
        one.short_help = " ".join(text.split("\n\n")[0].split())
        one.epilog = (one.epilog or "").replace("`", "") or None  # marks of Markdown
        one.cls = MannerCommand
    for inner in commands.registered_groups:
        inner.cls = MannerGroup
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
