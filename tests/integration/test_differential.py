"""Functions as people wrote them do the same as what is emitted for them: run, memory compared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.differential import by_hand
from tests.differential.campaign import campaign, each_difference
from tests.differential.case import Argument, Case, Field, Region, spliced
from tests.differential.compare import (
    SANITIZE,
    Difference,
    Prepared,
    Version,
    differences,
    function_span,
    versions,
)
from tests.differential.reading import Found, read
from tests.generated_c.functions import function

GENERATED = int(os.environ.get("DIFFERENTIAL_FUNCTIONS", "400"))
AT_ONCE = 200  # functions of a test
SCHEDULED = 16  # every how-manieth function is compared under schedules too
SMALL = 4  # statements of a function, about
FLOATS = (Field("float"),)


def test_generated_functions_have_no_undefined_behaviour(tmp_path: Path) -> None:
    batch = [Prepared(function(seed)) for seed in range(60)]
    found = differences(batch, tmp_path, (*SANITIZE, "-O0"), seeds=1)
    assert not found, f"{found[0].what}\n{found[0].case.text}"


def test_functions_written_by_hand_have_no_undefined_behaviour(tmp_path: Path) -> None:
    batch = [Prepared(case) for case in by_hand.cases()]
    found = differences(batch, tmp_path, (*SANITIZE, "-O0"), seeds=1)
    assert not found, f"{found[0].what}\n{found[0].case.text}"


@pytest.fixture(scope="module")
def by_hand_read() -> dict[str, Found]:
    return {case.text: read(case) for case in by_hand.cases()}


REFUSED = {"neg_start_unsigned_bound"}  # with the place, and never misread


@pytest.mark.parametrize("case", by_hand.cases(), ids=lambda case: case.function)
def test_functions_written_by_hand_are_read_as_they_stand(case, by_hand_read) -> None:
    found = by_hand_read[case.text]
    if case.function in REFUSED:
        assert found.refusals
        assert not found.regions
    else:
        assert found.regions
        assert not found.refusals


def test_functions_written_by_hand_mean_what_c_makes_of_them(by_hand_read, tmp_path) -> None:
    batch = [
        Prepared(case, tuple(versions(case, found.regions, 5, 1)))
        for case in by_hand.cases()
        if (found := by_hand_read[case.text]).regions
    ]
    assert not [told(x) for x in differences(batch, tmp_path)]


@pytest.mark.parametrize("first", range(0, GENERATED, AT_ONCE))
def test_generated_functions_mean_what_c_makes_of_them(first: int, tmp_path: Path) -> None:
    seeds = range(first, min(first + AT_ONCE, GENERATED))
    counts = campaign(seeds, tmp_path, scheduled=SCHEDULED, size=SMALL)
    assert not [told(x) for x in counts.differences]
    assert counts.read > 0.6 * (counts.read + sum(counts.refused.values()))


def told(found: Difference) -> str:
    return f"{found.version}: {found.what}\n{found.case.text}"


def test_a_seed_gives_the_same_function_each_time() -> None:
    assert [function(seed) for seed in range(20)] == [function(seed) for seed in range(20)]


# What compares must itself be right: it finds what differs, and says where


def scaled(factor: str) -> Case:
    text = f"void f(int n, const float *a, float *b)\n{{\n    n = n - 1;\n    for (int i = 0; i < n; i++)\n        b[i] = {factor} * a[i];\n}}\n"  # noqa: E501
    arrays = (Argument("a", "float", 9, fields=FLOATS), Argument("b", "float", 9, fields=FLOATS))
    return Case(text, "f", {"n": 9}, (Argument("n", "int", value="9"), *arrays))


def own_version(case: Case, text: str) -> Prepared:
    return Prepared(case, (Version("mine", text, "mine", True),))


def mine(body: str) -> str:
    return f"void mine(int n, const float *a, float *b)\n{{\n{body}\n}}\n"


RIGHT = "for (int i = 0; i < 8; i++) b[i] = 2.0f * a[i];"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (RIGHT, None),
        (RIGHT + "b[3] += 1e-6f;", "b, byte 12"),
        (RIGHT + "b[8] = 0;", "b, byte 32"),  # an element that the function leaves alone
        (RIGHT + "b[9] = 0;", "b, byte 36"),  # behind the array
        (RIGHT + "((float *)a)[-1] = 0;", "a, byte 36"),  # before it: told at the end
        ("*(volatile int *)0 = 1;", "exit -11"),
        ("__builtin_trap();", "exit -"),
    ],
)
def test_a_version_that_differs_is_told_with_the_place(body, what, tmp_path: Path) -> None:
    batch = [own_version(scaled("2.0f"), mine(RIGHT)), own_version(scaled("2.0f"), mine(body))]
    batch.append(batch[0])
    found = differences(batch, tmp_path)
    if what is None:
        assert not found
    else:
        ((version, told),) = [(d.version, d.what) for d in found]
        assert version == "mine"
        assert told.startswith(what)


def test_a_version_that_does_not_end_is_told(tmp_path: Path) -> None:
    batch = [own_version(scaled("2.0f"), mine("for (volatile int i = 0;;) i++;"))]
    batch.append(own_version(scaled("2.0f"), mine(RIGHT)))
    (found,) = differences(batch, tmp_path, timeout=3)
    assert found.what == "does not end"


def test_what_the_compiler_refuses_costs_no_other_function(tmp_path: Path) -> None:
    bodies = (RIGHT, "nonsense;", RIGHT + "b[3] += 1e-6f;")
    batch = [own_version(scaled("2.0f"), mine(body)) for body in bodies]
    refused, differs = each_difference(batch, tmp_path, ())
    assert "nonsense" in refused.what
    assert differs.what == "b, byte 12"


def test_a_kernel_stands_in_the_place_of_its_region(tmp_path: Path) -> None:
    case = scaled("2.0f")
    start = case.text.index("for (")
    region = Region(read_of(case), start, case.text.rindex(";") + 1, {"a": "a", "b": "b"}, {})
    assert "n = n - 1;\n    { run((void *const[]){(void *)(a), (void *)(b)}); }\n}" in spliced(
        case.text, [region], ["run"]
    )
    prepared = Prepared(case, tuple(versions(case, [region], 5, 1)))
    assert prepared.versions[0].what == "base"
    assert len(prepared.versions) == 6
    assert not differences([prepared], tmp_path)


def test_a_region_that_is_misread_is_found_in_every_version(tmp_path: Path) -> None:
    case = scaled("3.0f")
    start = case.text.index("for (")
    region = Region(
        read_of(scaled("2.0f")), start, case.text.rindex(";") + 1, {"a": "a", "b": "b"}, {}
    )
    prepared = Prepared(case, tuple(versions(case, [region], 5, 1)))
    assert len(differences([prepared], tmp_path)) == len(prepared.versions) == 6


def read_of(case: Case):
    """What the loop of ``scaled`` means where n is 8."""
    from agent.loopnest.program import DType, Literal
    from tests.agent.loopnest.nests import at, loop, program, read, statement, times

    factor = Literal("3.0f" if "3.0f" in case.text else "2.0f")
    body = loop("i", 0, 7, statement("S0", at("b", "i"), "", times(factor, read("a", "i")), "i"))
    return program(body, arrays={"a": (9,), "b": (9,)}, dtype=DType.F32)


def test_the_function_is_found_among_others() -> None:
    text = (
        "int ff(int x) { return f(x); }\nvoid g(void);\nstatic int\nf(int x)\n{\n  if (x) { }\n}\n"
    )
    start, end = function_span(text, "f")
    assert text[start:end] == "f(int x)\n{\n  if (x) { }\n}"
