"""Options of a command that belong together, as one record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., None])


def with_records(command: Command) -> Command:
    """Makes each field of a parameter that is a record an argument or option of the command.

    Typer sees the fields where the record stands, with the types, defaults and help that they
    declare; the command is called with the records.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    kinds: dict[str, type[Any]] = {name: p.annotation for name, p in parameters.items()}
    records = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}
    fields = {name: inspect.signature(r, eval_str=True).parameters for name, r in records.items()}

    def called(**given: Any) -> None:
        made = {n: r(**{f: given.pop(f) for f in fields[n]}) for n, r in records.items()}
        command(**given, **made)

    def flat() -> Iterator[inspect.Parameter]:
        for name, parameter in parameters.items():
            for each in fields.get(name, {name: parameter}).values():
                # A name is all they have, so that one with a default may stand before one without.
                yield each.replace(kind=inspect.Parameter.KEYWORD_ONLY)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature([*flat()])  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]
