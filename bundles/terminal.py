"""What the commands of all rooms share: an option, lines, JSON, and an extra that is missing."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Annotated

import typer

from agent.errors import InputError
from agent.terminal import console

As_Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
PRETRAIN = "torch==2.13.0 '.[pretrain]' in a checkout"  # what pip installs, and where
EVALUATE = "torch==2.13.0 '.[pretrain,evaluate]' in a checkout"


def say(line: str) -> None:
    """A line of progress, on stderr."""
    console.note(line)


def show_json(value: object) -> None:
    """An answer for programs, on stdout."""
    typer.echo(json.dumps(value, indent=2))


def needs(*modules: str, install: str = PRETRAIN, what: str = "this") -> None:
    """Refuse ``what`` where one of the modules is not installed.

    Raises:
        InputError: it says what to give ``pip install``.
    """
    for name in modules:
        if find_spec(name) is None:
            raise missing_extra(name, install, what)


def missing_extra(module: str, install: str, what: str = "this") -> InputError:
    """A module of an extra is not there."""
    return InputError(
        f"{what} needs {module}, which is not installed",
        f"Install the extra: pip install {install}.",
    )
