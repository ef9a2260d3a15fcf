"""How the commands of the centre tell what they did: one JSON object, or words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.terminal.blocks import Block

A = TypeVar("A", bound=Mapping[str, object])


class Tell(Protocol):
    """Shows an answer: as it is with ``--json``, else the blocks that ``words`` makes of it."""

    def __call__(self, answer: A, words: Callable[[A], list[Block]]) -> None:
        """Print it."""


@contextmanager
def telling(as_json: bool) -> Iterator[Tell]:
    """Shows the answer; an expected failure is an object too, with ``--json``."""
    from agent.terminal import console

    def tell(answer: A, words: Callable[[A], list[Block]]) -> None:
        console.answer(answer, None if as_json else words(answer))

    try:
        with _disk_failures_told():
            yield tell
    except AgentError as error:
        if as_json:
            said = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
            console.answer({"error": said}, None)
        raise


@contextmanager
def _disk_failures_told() -> Iterator[None]:
    """A disk that fails somewhere is no bug of ours."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise AgentError(f"{what}{error.strerror or error}") from error
