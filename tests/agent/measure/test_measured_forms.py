"""Conditions, numbers read from data and all integer types, measured by the real worker."""

from pathlib import Path

import pytest

from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import Array, Binary, Derived, DType, Literal, Program, Select
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from agent.measure.plan import Job, arguments_of
from agent.measure.session import TimingSettings
from agent.measure.toolchain import Toolchain
from agent.measure.worker_runner import WorkerRunner
from tests.agent.loopnest.forms import FORMS, I32, U8, index, less, put, when
from tests.agent.loopnest.nests import at, loop, plus, program, read

SCHEDULES = {
    "conditional": "tile i 8; parallelize i_t; vectorize j",
    "histogram": "interchange i j; jam j 2",
    "halves": "parallelize i; vectorize k",
    "table": "interchange r i; parallelize g",
    "clipped": "parallelize i; vectorize j",
}


@pytest.fixture
def comparing(toolchain: Toolchain, cache: Path) -> WorkerRunner:
    return WorkerRunner(toolchain, cache, TimingSettings(sample_s=1e-6, rounds=1, min_rounds=1))


@pytest.mark.parametrize("name", FORMS)
def test_a_program_of_every_form_is_measured(comparing: WorkerRunner, name: str) -> None:
    variant = transform(FORMS[name], parse_schedule(SCHEDULES[name]))
    found = comparing.measure(FORMS[name], [variant])
    assert [t.outcome for t in found.timings] == ["ok"]


def test_one_wrong_unit_is_seen_in_every_integer_type(comparing: WorkerRunner) -> None:
    whole = [d for d in DType if not d.is_float]
    arrays = [Array(f"{name}{d.bits}{d.is_signed:d}", d, (10,)) for d in whole for name in "xy"]
    body = [
        put(f"S{n}", at(x.name, "i"), "", plus(read(y.name, "i"), Literal("1")), "i")
        for n, (x, y) in enumerate(zip(arrays[::2], arrays[1::2], strict=True))
    ]
    copies = Program("copies", tuple(arrays), (), (), (loop("i", 0, 9, *body),))
    right = emit(copies)
    wrong = [right.replace(f"{y.name}[i] + 1", f"{y.name}[i] + 1 + (i == 7)") for y in arrays[1::2]]
    measured = comparing.measure_job(Job(arguments_of(copies), right, tuple(wrong)))
    assert [t.outcome for t in measured.timings] == ["wrong-result"] * len(whole)


def gather(value: object, high: int, dtype: DType = I32, condition: object = None) -> Program:
    number = Derived("d", value, 0, high)  # type: ignore[arg-type]
    body = (put("S0", at("x", "i"), "", read("y", "d"), "i", derived=[number]),)
    body = body if condition is None else when(condition, *body)  # type: ignore[arg-type]
    shapes = {"x": (10,), "y": (high + 1,), "k": (10,)}
    return program(loop("i", 0, 9, *body), arrays=shapes, dtype=dtype)


K = read("k", "i")
CLAMPED = Select(
    less(K, Literal("0")), Literal("0"), Select(less(Literal("5"), K), Literal("5"), K)
)


@pytest.mark.parametrize(
    ("gathered", "values"),
    [
        (gather(K, 255), (1, 100)),  # as other integers: they fit
        (gather(K, 9), (1, 9)),
        (gather(K, 0), (0, 0)),
        (gather(Binary("-", Binary("*", K, Literal("3")), Literal("3")), 30), (1, 11)),
        (gather(Binary(">>", K, Literal("3")), 31), (1, 100)),
        (gather(Binary("%", K, Literal("8")), 7), (1, 100)),
        (gather(CLAMPED, 5), (1, 100)),
        (gather(K, 1000, U8), (1, 100)),
        (gather(K, 9, condition=less(K, Literal("10"))), (1, 100)),
        (gather(plus(K, index("i")), 20), (1, 11)),
    ],
)
def test_what_subscripts_are_made_of_keeps_them_within_the_array(
    gathered: Program, values: tuple[int, int]
) -> None:
    assert arguments_of(gathered).arrays[2].values == values


def test_values_that_are_not_the_usual_ones_are_told_to_the_worker() -> None:
    commands = arguments_of(gather(K, 9)).commands()
    assert commands[2].split()[-2:] == ["1", "9"]
    assert len(commands[0].split()) == 8


def test_a_constant_table_is_no_argument() -> None:
    assert "weights" not in {a.name for a in arguments_of(FORMS["table"]).arrays}
