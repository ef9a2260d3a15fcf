"""The page "What C is read" is true: what it shows is read, or refused in its words."""

import re
from pathlib import Path

import pytest

from agent.errors import SourceError
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.lowering import state
from agent.loopnest.lowering.lower import sizes_of
from agent.loopnest.lowering.reader import read_region, regions_of
from agent.loopnest.program import FUNCTIONS

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "c-subset.md").read_text()
EXAMPLES = re.findall(r"(?ms)^```c\n(.*?)^```$", PAGE)
SIZE = 8
REFUSED = "// refused: "


def read(text):
    """All regions of the last function, each size being ``SIZE``."""
    unit = parse_text(text, "f.c")
    if unit.errors:
        pytest.fail(unit.errors[0])
    *_, function = unit.functions.values()
    for number, part in enumerate(regions_of(unit, function), 1):
        sizes = dict.fromkeys(sizes_of(unit, function, part), SIZE)
        read_region(unit, function.name, sizes, number)


def name(text):
    return text.split("\n")[0].removeprefix(REFUSED)[:40]


@pytest.mark.parametrize("text", [x for x in EXAMPLES if not x.startswith(REFUSED)], ids=name)
def test_an_example_is_read(text):
    read(text)


@pytest.mark.parametrize("text", [x for x in EXAMPLES if x.startswith(REFUSED)], ids=name)
def test_an_example_is_refused_in_the_words_of_the_page(text):
    why, hint, *_ = text.split("\n")
    with pytest.raises(SourceError) as caught:
        read(text)
    assert caught.value.message.partition(": ")[2] == why.removeprefix(REFUSED)
    assert caught.value.hint == hint.removeprefix("// ")


def test_the_functions_of_the_library_are_those_of_the_page():
    floats, integers = re.findall(r"`([\w\s]+)`", PAGE[PAGE.index("Read are `sqrt") :])[:3:2]
    both = {name + end for name in floats.split() for end in ("", "f")}
    assert both | set(integers.split()) == set(FUNCTIONS)


def test_the_limits_are_those_of_the_page():
    (limits,) = re.findall(r"(?ms)^## Limits\n(.*?)^##", PAGE)
    told = re.findall(r"\d[\d,]*", limits.replace("2^24", "24").replace("2^31", "31"))
    assert [int(x.replace(",", "")) for x in told[:8]] == [
        state.MAX_LOOPS,
        state.MAX_STATEMENTS,
        state.MAX_ARRAYS,
        state.MAX_BOUNDS,
        state.MAX_NODES,
        state.MAX_DEEP,
        state.MAX_INLINED,
        state.MAX_TABLE,
    ]
    assert (state.MAX_SIZE, state.MAX_ELEMENTS) == (1 << 24, 1 << 31)
