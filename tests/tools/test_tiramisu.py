"""Timings in the LOOPerSet format: programs and schedules said anew, and what is refused."""

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.errors import AgentError, Exit
from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import Affine, DType, loops, statements
from agent.loopnest.schedules.legality import Dependences, check_legal
from bundles.labels.labels import load_labels
from tools.tiramisu.__main__ import main
from tools.tiramisu.convert import _lines, load_tiramisu
from tools.tiramisu.programs import InexpressibleError, affine_forms, read_program
from tools.tiramisu.schedules import Converter, skew

PUBLIC = Path(__file__).parents[3] / "shared" / "data" / "tiramisu-public.jsonl.xz"
READ = {"expr_type": "access", "children": []}
NUMBER = {"expr_type": "value", "children": []}


def node(kind: str, *children: dict[str, Any]) -> dict[str, Any]:
    return {"expr_type": kind, "children": list(children)}


def loop(
    low: object, high: object, parent: str | None, children: list[str], inside: list[str]
) -> dict[str, Any]:
    return {
        "lower_bound": low,
        "upper_bound": high,
        "parent_iterator": parent,
        "child_iterators": children,
        "computations_list": inside,
    }


def access(buffer: int, *matrix: list[int]) -> dict[str, Any]:
    return {"access_is_reduction": False, "buffer_id": buffer, "access_matrix": list(matrix)}


def computation(
    order: int, iterators: list[str], write: str, buffer: int, accesses: list[Any], expr: Any
) -> dict[str, Any]:
    return {
        "absolute_order": order,
        "iterators": iterators,
        "comp_is_reduction": False,
        "write_access_relation": f"{{ c[{', '.join(iterators)}] -> b[{write}] }}",
        "write_buffer_id": buffer,
        "data_type": "float64",
        "accesses": accesses,
        "expression_representation": expr,
    }


def product() -> dict[str, Any]:
    """c[i, j] += a[i, k] * b[k, j], 40 x 48 x 56."""
    return {
        "iterators": {
            "i0": loop(0, 40, None, ["i1"], []),
            "i1": loop(0, 48, "i0", ["i2"], []),
            "i2": loop(0, 56, "i1", [], ["comp00"]),
        },
        "computations": {
            "comp00": computation(
                1, ["i0", "i1", "i2"], "i0, i1", 2,
                [access(2, [1, 0, 0, 0], [0, 1, 0, 0]), access(0, [1, 0, 0, 0], [0, 0, 1, 0]),
                 access(1, [0, 0, 1, 0], [0, 1, 0, 0])],
                node("add", READ, node("mul", READ, READ)),
            )
        },
    }  # fmt: skip


def pair() -> dict[str, Any]:
    """b[i] = a[i] + 1.5 in one loop, c[i] = b[i - 1] in the next."""
    return {
        "iterators": {
            "i0": loop(1, 100, None, [], ["comp00"]),
            "i1": loop(1, 100, None, [], ["comp01"]),
        },
        "computations": {
            "comp00": computation(
                1, ["i0"], "i0", 1, [access(0, [1, 0])], node("add", READ, NUMBER)
            ),
            "comp01": computation(2, ["i1"], "i1", 2, [access(1, [1, -1])], READ),
        },
    }


def tree(program: dict[str, Any]) -> dict[str, Any]:
    def at(name: str) -> dict[str, Any]:
        data = program["iterators"][name]
        return {
            "loop_name": name,
            "computations_list": data["computations_list"],
            "child_list": [at(x) for x in data["child_iterators"]],
        }

    tops = [n for n, x in program["iterators"].items() if x["parent_iterator"] is None]
    return {"roots": [at(name) for name in tops]}


def plan(**changes: object) -> dict[str, Any]:
    plain = {
        "shiftings": None,
        "tiling": {},
        "unrolling_factor": None,
        "parallelized_dim": None,
        "transformations_list": [],
    }
    return {**plain, **changes}


def tiling(*sizes: tuple[str, int]) -> dict[str, Any]:
    names, factors = zip(*sizes, strict=True)
    return {"tiling_depth": len(names), "tiling_dims": [*names], "tiling_factors": [*factors]}


def swap(one: int, two: int) -> list[int]:
    return [1, one, two, *[0] * 13]


def turn(level: int) -> list[int]:
    return [2, 0, 0, level, *[0] * 12]


def lean(outer: int, inner: int, *matrix: int) -> list[int]:
    return [3, 0, 0, 0, outer, inner, 0, *matrix, *[0] * 5]


def schedule(program: dict[str, Any], ms: float = 1.0, **changes: Any) -> dict[str, Any]:
    plain = {
        "computations": {name: plan() for name in program["computations"]},
        "fusions": None,
        "sched_str": "",
        "tree_structure": tree(program),
        "min_ms": ms,
        "median_ms": ms * 1.01,
        "runs": 30,
        "legal": True,
    }
    return {**plain, **changes}


def converted(*schedules: dict[str, Any], of: Callable[[], dict[str, Any]] = product) -> list[str]:
    converter = Converter(read_program(of()), schedules)
    return [str(converter.convert(s)[0]) for s in schedules]


def one(**changes: Any) -> dict[str, Any]:
    return schedule(product(), computations={"comp00": plan(**changes)})


# Programs


def test_a_program_has_the_loops_arrays_and_reduction_that_its_tables_say() -> None:
    program = read_program(product()).program
    ((around, statement),) = statements(program.body)
    assert [x.iterator for x in around] == ["i0", "i1", "i2"]
    assert [x.upper[0].expr.const for x in around] == [39, 47, 55]
    assert statement.op == "+"
    assert statement.target.subscripts == (Affine.var("i0"), Affine.var("i1"))
    assert {a.name: a.shape for a in program.arrays} == {
        "b0": (40, 56), "b1": (56, 48), "b2": (40, 48)
    }  # fmt: skip
    assert all(a.dtype == DType.F64 for a in program.arrays)
    assert "+=" in emit(program)


def test_arrays_start_where_the_lowest_subscript_is() -> None:
    program = read_program(pair()).program
    assert {a.name: a.shape for a in program.arrays} == {"b0": (99,), "b1": (100,), "b2": (99,)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("i1", "i1"), ("(i6 - 1)+1", "i6"), (" i4 + 1 ", "i4 + 1"), ("-i2+3*i1", "3*i1 - i2")],
)
def test_affine_forms_are_read(text: str, expected: str) -> None:
    assert [str(form) for form in affine_forms(text)] == [expected]


def test_a_bound_may_be_the_larger_of_two() -> None:
    assert [str(form) for form in affine_forms("max(1, (i3 - 1))", "max")] == ["1", "i3 - 1"]


# Schedules


@pytest.mark.parametrize(
    "matrix",
    [(1, 1, 0, 1), (1, 3, 0, 1), (3, 2, 1, 1), (1, 0, 1, 1), (2, -1, 1, 0), (3, -2, -1, 1),
     (1, 3, 1, 4), (2, -5, -1, 3), (0, -1, 1, 0), (-1, 0, 0, -1), (7, 1, 6, 1)],
)  # fmt: skip
def test_a_skew_is_a_product_of_simple_moves(matrix: tuple[int, ...]) -> None:
    product_ = np.eye(2, dtype=int)
    for move in skew(matrix):
        step = np.eye(2, dtype=int)
        if move.kind == "swap":
            step = step[::-1]
        elif move.kind == "lean":
            step[1, 0] = move.factor
        else:
            step[move.outer, move.outer] = -1
        product_ = step @ product_
    assert product_.tolist() == [list(matrix[:2]), list(matrix[2:])]


def test_a_skew_that_is_not_unimodular_is_left_out() -> None:
    with pytest.raises(InexpressibleError, match="unimodular"):
        skew((1, 1, 1, 1))


def test_steps_come_in_the_order_in_which_they_apply() -> None:
    wanted = one(
        transformations_list=[swap(0, 1)],
        tiling=tiling(("i1", 16), ("i0", 8)),
        parallelized_dim="i1",
        unrolling_factor=4,
    )
    assert converted(wanted) == [
        "interchange i0 i1; tile i1 16 i0 8; parallelize i1_t; unroll i2 4"
    ]


def test_where_reversals_occur_names_stand_for_levels() -> None:
    wanted = one(transformations_list=[swap(0, 2)], tiling=tiling(("i0", 8), ("i1", 16)))
    reversal = one(transformations_list=[turn(2)])
    assert converted(wanted, reversal) == ["interchange i0 i2; tile i2 8 i1 16", "reverse i2"]


def test_where_names_move_the_interchange_comes_before_the_skew() -> None:
    wanted = one(transformations_list=[lean(1, 2, 1, 0, 1, 1), swap(0, 1)])
    assert converted(wanted) == ["interchange i0 i1; skew i2 i0 1"]


def test_reversals_move_to_the_front_and_turn_the_skew() -> None:
    wanted = one(transformations_list=[lean(0, 1, 1, 0, 2, 1), turn(0)])
    assert converted(wanted) == ["reverse i0; skew i1 i0 -2"]


def test_moves_that_undo_each_other_vanish() -> None:
    wanted = one(transformations_list=[swap(0, 1), swap(0, 1), turn(1), turn(1)])
    assert converted(wanted) == ["original"]


def test_a_parallel_innermost_loop_is_split_where_it_is_unrolled() -> None:
    wanted = one(parallelized_dim="i2", unrolling_factor=8)
    assert converted(wanted) == ["tile i2 8; parallelize i2_t; unroll i2 8"]


def test_a_wavefront_of_tiles_keeps_every_instance_and_dependence() -> None:
    source = read_program(product())
    wanted = one(
        transformations_list=[lean(0, 1, 1, 1, 0, 1)], tiling=tiling(("i1", 16), ("i2", 8))
    )
    _, program = Converter(source, [wanted]).convert(wanted)
    check_legal(program, Dependences.of(source.program))
    ((around, _),) = statements(program.body)
    assert len(around) == 5


def test_fused_loops_come_out_as_their_tree_says() -> None:
    joined = {"loop_name": "i0", "computations_list": ["comp00", "comp01"], "child_list": []}
    wanted = schedule(pair(), fusions=[["comp00", "comp01", 0]], tree_structure={"roots": [joined]})
    converter = Converter(read_program(pair()), [wanted])
    text, program = converter.convert(wanted)
    assert str(text) == "fuse i0 i1"
    assert len(list(loops(program.body))) == 1


def test_a_tree_unlike_theirs_is_left_out() -> None:
    wanted = schedule(pair(), fusions=[["comp00", "comp01", 0]])
    with pytest.raises(InexpressibleError, match="tree"):
        converted(wanted, of=pair)


def test_computations_of_one_loop_have_to_agree() -> None:
    def both() -> dict[str, Any]:
        data = pair()
        data["iterators"] = {"i0": loop(1, 100, None, [], ["comp00", "comp01"])}
        data["computations"]["comp01"] |= {
            "iterators": ["i0"], "write_access_relation": "{ c[i0] -> b[i0] }"
        }  # fmt: skip
        return data

    plans = {"comp00": plan(transformations_list=[turn(0)]), "comp01": plan()}
    with pytest.raises(InexpressibleError, match="moved differently"):
        converted(schedule(both(), computations=plans), of=both)


# The file


def lines(path: Path, *programs: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(p) + "\n" for p in programs))
    return path


def timed(program: dict[str, Any], *schedules: dict[str, Any]) -> dict[str, Any]:
    base = schedule(program, ms=2.0)
    return {"name": "f", "node": "n", "initial_ms": 2.0, "program": program,
            "schedules": [base, *schedules]}  # fmt: skip


def test_labels_come_back_with_their_features(tmp_path: Path) -> None:
    fast = one(parallelized_dim="i0") | {"min_ms": 0.5, "median_ms": 0.6}
    source = lines(tmp_path / "a.jsonl", timed(product(), fast), timed(pair()))
    report = load_tiramisu(source, tmp_path / "a.parquet", lambda _: None)
    labels = load_labels(tmp_path / "a.parquet")
    assert (report.programs, report.schedules, report.used) == (2, 3, 3)
    assert labels.schedule.tolist() == ["original", "parallelize i0", "original"]
    assert labels.log_speedup[1] == pytest.approx(np.log(4.0))
    assert labels.seconds.tolist() == pytest.approx([2e-3, 5e-4, 2e-3])
    assert labels.sd[1] > labels.sd[0]
    assert not np.array_equal(labels.features[0], labels.features[1])
    assert labels.work[0] == labels.work[1] != labels.work[2]


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    again = one(parallelized_dim="i0")
    shifted = one(shiftings=[["i0", 1]])
    illegal = one(parallelized_dim="i1") | {"legal": False}
    source = lines(
        tmp_path / "a.jsonl", timed(product(), again, again, shifted, illegal), timed(product())
    )
    report = load_tiramisu(source, tmp_path / "a.parquet", lambda _: None)
    assert report.used == 2
    assert report.skipped.total() == report.schedules - report.used
    assert report.skipped["shifting"] == 1
    assert report.skipped["program: the same as an earlier one"] == 1


def test_a_schedule_timed_twice_gets_an_interval_that_holds_both(tmp_path: Path) -> None:
    first, second = (one(parallelized_dim="i0") | {"min_ms": ms, "median_ms": ms} for ms in (1, 2))
    source = lines(tmp_path / "a.jsonl", timed(product(), first, second))
    load_tiramisu(source, tmp_path / "a.parquet", lambda _: None)
    labels = load_labels(tmp_path / "a.parquet")
    assert np.log(2.0) <= labels.sd[1] * 1.2816 < 1.02 * np.log(2.0)  # and what sessions differ by


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    data = json.loads(json.dumps(timed(product(), one(parallelized_dim="i0"))))
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("program"), "program"),
        (lambda d: d["schedules"][1].update(min_ms=-1.0), "no time"),
        (lambda d: d["schedules"][1].update(min_ms=float("nan")), "no time"),
        (lambda d: d["schedules"][1].update(computations={}), "other computations"),
        (lambda d: d["schedules"][1].update(fusions=[["x", "y", 0]]), "fusion"),
        (lambda d: d["schedules"][1]["computations"]["comp00"].update(transformations_list=[[1]]),
         "16 numbers"),
        (lambda d: d["schedules"][1]["computations"]["comp00"].update(
            transformations_list=[swap(0, 9)]), "no loop 9"),
        (lambda d: d["program"]["iterators"]["i2"].update(upper_bound="i0 ; x"), "affine form"),
        (lambda d: d["program"]["iterators"]["i0"].update(upper_bound="i2"), "no outer iterator"),
        (lambda d: d["program"]["iterators"]["i0"].update(upper_bound=1e300), "whole number"),
        (lambda d: d["program"]["iterators"]["i0"].update(parent_iterator="i2"), "nested|inside"),
        (lambda d: d["program"]["computations"]["comp00"].update(accesses=[]), "accesses"),
        (lambda d: d["program"]["computations"]["comp00"]["accesses"][0].update(
            access_matrix=[[1]]), "access matrix"),
        (lambda d: d["program"]["computations"].update({"x y": {}}), "not a name"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_refused_by_its_number(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    source = lines(tmp_path / "a.jsonl", timed(pair()), broken(change))
    with pytest.raises(AgentError, match=f"line 2.*({words})"):
        load_tiramisu(source, tmp_path / "a.parquet", lambda _: None)
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 200_000, b"\xff\xfe\n", b'{"schedules": []}']
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(content)
    with pytest.raises(AgentError):
        load_tiramisu(source, tmp_path / "a.parquet", lambda _: None)


def test_a_packed_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl.xz"
    source.write_bytes(lzma.compress(json.dumps(timed(product())).encode())[:-20])
    with pytest.raises(AgentError, match="cannot read"):
        load_tiramisu(source, tmp_path / "a.parquet", lambda _: None)


def test_the_command_says_what_it_left_out(tmp_path: Path, capsys) -> None:
    source = lines(tmp_path / "a.jsonl", timed(product(), one(shiftings=[["i0", 1]])))
    assert main([str(source), str(tmp_path / "a.parquet"), "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["schedules"], found["used"]) == (2, 1)
    assert found["skipped"] == {"shifting": 1}


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public timings are not here")
def test_most_of_the_public_timings_can_be_used() -> None:
    total = used = 0
    for number, line in _lines(PUBLIC):
        if number % 35:
            continue
        converter = Converter(read_program(line["program"]), line["schedules"])
        for data in line["schedules"][:40]:
            total += 1
            try:
                converter.convert(data)
            except InexpressibleError:
                continue
            used += 1
    assert total > 200
    assert used / total > 0.85
