"""Records as typed values and back: what older agents lacked, and what a disk has spoilt."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from agent.json_values import Later, MalformedError
from agent.state import typed


@dataclass(frozen=True)
class Part:
    name: str
    size: float = 1.0


@dataclass(frozen=True)
class Whole:
    kind: Literal["a", "b"] = "a"
    count: int = 0
    on: bool = False
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    sizes: Mapping[str, float | None] = field(default_factory=dict)
    added: Later[str] = None


WHOLE = {
    "kind": "b",
    "count": 3,
    "on": True,
    "part": {"name": "x", "size": 2},
    "parts": [{"name": "y", "size": 0.5}],
    "sizes": {"z": None, "w": 1.5},
}


@pytest.mark.parametrize("record", [WHOLE, WHOLE | {"part": None}, WHOLE | {"added": "later"}])
def test_what_was_read_is_written_again_byte_for_byte(record):
    found = typed.to_json(typed.from_json(Whole, record))
    assert json.dumps(found) == json.dumps(record)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"kind": "c"}, {"kind": "a"}),
        ({"count": True}, {"count": 0}),
        ({"count": 1 << 63}, {"count": 0}),
        ({"on": 1}, {"on": False}),
        ({"part": {"size": 1.0}}, {"part": None}),
        ({"part": {"name": "x", "size": math.nan}}, {"part": {"name": "x", "size": 1.0}}),
        ({"part": {"name": "x", "size": 10**400}}, {"part": {"name": "x", "size": 1.0}}),
        ({"parts": [7, {"name": "y", "size": 0.5}, None]}, {}),
        ({"parts": "abc"}, {"parts": []}),
        ({"sizes": {"z": None, "w": 1.5, "v": "x"}}, {}),
        ({"unknown": 1}, {}),
    ],
)
def test_what_is_damaged_has_its_default(damage, expected):
    assert typed.to_json(typed.from_json(Whole, WHOLE | damage)) == WHOLE | expected


def test_a_record_without_what_it_must_have_is_none():
    with pytest.raises(MalformedError):
        typed.from_json(Part, {"size": 1.0})
    with pytest.raises(MalformedError):
        typed.from_json(Part, ["name"])
