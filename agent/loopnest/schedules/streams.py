"""Arrays that no cache holds, written past all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.loopnest.program import Statement
from agent.loopnest.schedules.schedule import Stream, Tile
from agent.loopnest.schedules.tree import is_longer

if TYPE_CHECKING:
    from agent.loopnest.schedules.candidates import Draft

LARGE = 1 << 22  # bytes of an array that a cache may not hold
PART = 1 << 14  # iterations that go to a thread at a time, of a loop that is alone


def cut_flat_loops(draft: Draft) -> None:
    """Tile loops that are alone: threads share the tiles, and the loop inside is left to lanes."""
    for loop in draft.outermost():
        if all(isinstance(node, Statement) for node in loop.body) and is_longer(loop, 2 * PART):
            draft.attempt(Tile(((loop.iterator, PART),)))


def stream_large(draft: Draft) -> bool:
    """Write large arrays past the caches where that is possible; whether it was somewhere."""
    large = {a.name for a in draft.program.arguments if a.bytes >= LARGE}
    taken = [
        draft.attempt(Stream(s.target.array, loop.iterator))
        for loop in draft.innermost()
        if loop.vector
        for s in loop.body
        if isinstance(s, Statement) and s.target.array in large
    ]
    return any(taken)
