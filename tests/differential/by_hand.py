"""Functions by hand (``cases/`` here, ``tests/cases/plant``), each with what it takes to call it.

Half of them are C that was once misread; the others are loops as they stand in plants and
laboratories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.differential.case import Argument, Case, Field

CASES = Path(__file__).with_name("cases"), Path(__file__).parents[1] / "cases" / "plant"


def _size(name: str, type_: str, value: int) -> Argument:
    return Argument(name, type_, value=str(value))


def _array(
    name: str, type_: str, elements: int, low: float = -1, high: float = 1, **more: bool
) -> Argument:
    return Argument(name, type_, elements, fields=(Field(type_, low, high),), **more)


def _case(
    stem: str,
    *arguments: Argument,
    function: str = "",
    result: str = "",
    names: str = "",
    sizes: Mapping[str, int] | None = None,
) -> Case:
    sizes = sizes or {
        a.name: int(a.value)
        for a in arguments
        if a.value and a.type not in ("float", "double") and a.name != "limit"
    }
    text = next(p for p in (place / f"{stem}.c" for place in CASES) if p.exists()).read_text()
    return Case(text, function or stem, sizes, arguments, result, tuple(names.split()))


def _particles(count: int) -> Argument:
    members = tuple(Field("float", -1, 1, name) for name in "x y z vx vy vz".split())
    return Argument("p", "struct particle", count, fields=members)


def _bodies(count: int) -> Argument:
    floats = "at.x at.y speed.x speed.y".split()
    floats += [f"part[{j}].w[{k}][{m}]" for j in range(4) for k in range(3) for m in range(2)]
    members = (
        Field("double", -1, 1, "mass"),
        *(Field("float", -1, 1, name) for name in floats),
        *(Field("int", -9, 9, f"part[{j}].kind") for j in range(4)),
    )
    return Argument("p", "struct body", count, fields=members)


_FLAGS = (
    *(Field("bool", 0, 1, name) for name in ("on", "seen[0]", "seen[1]")),
    Field("float", -1, 1, "level"),
)


def _forms() -> tuple[Case, ...]:
    """Each shows a few forms of C that are read."""
    number, image = "int", "uint8_t"
    return (
        _case(
            "early_return",
            _size("n", number, 30),
            _array("a", "float", 30),
            _array("b", "float", 30),
            names="put",
        ),
        _case(
            "padded_pixel",
            _size("w", number, 7),
            _size("h", number, 5),
            _size("pad", number, 2),
            _array("im", "float", 35),
            _array("out", "float", 99),
            names="pixel",
        ),
        _case(
            "own_parameter",
            _size("n", number, 30),
            _array("a", image, 30),
            _array("b", number, 30, -300, 300),
            names="clipped",
        ),
        _case(
            "structures_in_structures",
            _size("n", number, 6),
            _bodies(6),
            Argument("dt", "float", value="0.1f"),
            names="vector body",
        ),
        _case(
            "quotient_bound",
            _size("n", number, 13),
            *(_array(name, "float", 30) for name in "abc"),
        ),
        _case(
            "greatest_number",
            _size("n", number, 30),
            _array("a", number, 30, -90, 90),
            _array("b", image, 30, 0, 255),
            _array("least", number, 1),
            result="int",
        ),
        _case(
            "number_in_pointer",
            _size("n", number, 5),
            _array("a", "float", 18),
            _array("b", "float", 4),
            _array("c", "float", 29),
            names="clear add",
        ),
        _case(
            "variable_behind_pointer",
            _size("n", number, 20),
            _array("x", "double", 20),
            _array("out", "double", 20),
            result="double",
            names="add both",
        ),
        _case(
            "condition_kept",
            _size("n", number, 20),
            _array("a", "float", 20),
            _array("b", "float", 20),
            names="swap",
        ),
        _case(
            "local_structure",
            _size("n", number, 20),
            _array("a", "float", 20),
            _array("at", number, 20, 0, 2),
            result="float",
            names="filter put",
        ),
        _case(
            "counter_of_the_file",
            _size("n", number, 20),
            _array("a", "float", 20),
            _array("b", "float", 20),
            result="int",
            names="at hits next hit",
        ),
        _case(
            "members_of_structures",
            Argument("in", "const struct image *", value="&(struct image){7, 5, 9, 0.5f, pixels}"),
            Argument("out", "struct image *", value="&(struct image){7, 5, 8, 2.0f, drawn}"),
            _array("pixels", "float", 45, is_global=True),
            _array("drawn", "float", 40, is_global=True),
            sizes={"in->w": 7, "in->h": 5, "in->stride": 9, "out->stride": 8},
            names="image at pixels drawn",
        ),
        _case(
            "counter_behind_continue",
            _size("n", number, 12),
            _array("a", "float", 30),
            _array("b", "float", 12),
        ),
        _case(
            "hidden_number",
            _size("n", number, 12),
            _array("a", "float", 12),
            _array("b", "float", 12),
            result="double",
        ),
        _case(
            "while_loops",
            _size("n", "uint32_t", 23),
            _size("m", image, 7),
            _array("a", "float", 24),
            _array("b", "float", 24),
        ),
        _case(
            "read_where_it_is_there",
            _size("n", number, 12),
            _array("a", "float", 12),
            _array("b", "float", 12),
            _array("at", number, 12, -3, 7),
            _array("t", "float", 4),
        ),
        _case(
            "breaks",
            _size("n", number, 20),
            _size("m", number, 7),
            _array("a", "float", 20),
            _array("b", "float", 20),
        ),
        _case(
            "packed",
            _size("w", number, 6),
            _size("h", number, 5),
            _array("im", "float", 30),
            _array("out", "float", 30),
            _array("at", number, 33),
            _array("flags", image, 31, 0, 9),
            result="int",
        ),
        _case(
            "truth_values",
            _size("n", number, 20),
            _array("on", "bool", 20, 0, 1),
            _array("a", "float", 20),
            _array("b", "unsigned char", 20, 0, 2),
            Argument("s", "struct flags", 20, fields=_FLAGS),
            Argument("start", "bool", value="1"),
            result="bool",
            names="over flags",
            sizes={"n": 20},
        ),
        _case(
            "steps_of_any_type",
            _size("n", number, 20),
            _array("a", "unsigned char", 20, 250, 255),
            _array("s", "signed char", 1, -128, -120),
            _array("f", "float", 21),
            _array("b", number, 20),
        ),
        _case(
            "last_continue",
            _size("n", number, 30),
            _array("a", "float", 30),
            _array("b", "float", 30),
        ),
    )


def cases() -> tuple[Case, ...]:
    """All of them."""
    number, image = "int", "uint8_t"
    return (
        *_forms(),
        # C that was misread, or refused with misleading words
        _case("array_param_reassigned", _array("a", "float", 64), _array("b", "float", 64)),
        _case("const_u8_subscript", _array("A", "float", 512), _array("B", "float", 512)),
        _case(
            "inline", _size("n", number, 9), _array("A", "float", 9), _array("B", "float", 9),
            function="f",
        ),
        _case("neg_start_unsigned_bound", _size("r", "unsigned", 7), _array("A", "float", 64)),
        _case(
            "nested_region",
            _size("n", number, 9), _array("A", "float", 9), _array("B", "float", 9),
        ),
        _case(
            "own_abs",
            _size("n", number, 9), _array("A", number, 9, -50, 50), _array("B", number, 9, -50, 50),
            names="abs",
        ),
        _case(
            "param_changed_before",
            _size("n", number, 9), _array("A", "float", 64),
            Argument("alpha", "float", value="1.5f"),
        ),
        _case(
            "restrict", _size("n", number, 9), _array("A", "float", 9), _array("B", "float", 9),
            function="f",
        ),
        _case(
            "transpose_tall",
            _size("n", number, 35), _size("m", number, 6),
            _array("A", "float", 210), _array("B", "float", 210),
        ),
        _case("u8_size", _size("n", image, 200), _array("A", "float", 400)),
        _case("unsigned_size", _size("n", "unsigned", 8), _array("A", "float", 8)),
        _case(
            "continue_in_if",
            _size("n", number, 30), _array("a", "float", 30), _array("b", "float", 30),
        ),
        _case(
            "number_in_call",
            _size("n", number, 30), _array("a", "float", 30), _array("b", "float", 30),
            names="lerp",
        ),
        _case("own_step", _size("n", number, 20), _array("b", "unsigned", 20, 0, 100)),
        # As found in plants and laboratories
        _case(
            "box3x3_borders",
            _array("in", image, 117, 0, 255), _array("out", image, 117, 0, 255),
            _size("w", number, 13), _size("h", number, 9),
        ),
        _case(
            "calibration_curve",
            _size("n", number, 30), _array("raw", "double", 30), _array("value", "double", 30),
            _array("coeff", "double", 4), Argument("gamma", "double", value="1.25"),
            result="int", names="horner3",
        ),
        _case(
            "dot_induction",
            _size("n", number, 17), _array("x", "double", 33), _size("incx", number, 2),
            _array("y", "double", 49), _size("incy", number, 3), result="double",
        ),
        _case(
            "fir_taps", _array("x", "float", 50), _array("y", "float", 50),
            _size("n", "unsigned", 50), names="taps TAPS",
        ),
        _case(
            "gemm_lda",
            _size("m", number, 7), _size("n", number, 6), _size("k", number, 5),
            Argument("alpha", "double", value="1.5"), _array("a", "double", 63),
            _size("lda", number, 9), _array("b", "double", 40), _size("ldb", number, 8),
            Argument("beta", "double", value="0.5"), _array("c", "double", 70),
            _size("ldc", number, 10),
        ),
        _case(
            "heat_pingpong", _size("steps", number, 3), Argument("k", "double", value="0.1"),
            _array("u", "double", 2 * 256 * 256, is_global=True), names="u NX NY",
        ),
        _case(
            "kalman_predict",
            _array("P", "double", 36), _array("F", "double", 36), _array("Q", "double", 36),
            names="N",
        ),
        _case(
            "lookup_table",
            _array("rgb", image, 90, 0, 255), _array("lut", image, 768, 0, 255),
            _size("pixels", number, 30),
        ),
        _case(
            "sobel_flat",
            _array("img", image, 117, 0, 255), _array("out", image, 117, 0, 255),
            _size("w", number, 13), _size("h", number, 9),
        ),
        _case(
            "struct_fields", _particles(21), _size("n", number, 21),
            Argument("dt", "float", value="0.1f"), Argument("g", "float", value="9.81f"),
            names="particle",
        ),
        _case(
            "threshold_count",
            _array("frame", "unsigned short", 63, 0, 4095),
            _array("mask", "unsigned char", 63, 0, 9),
            _size("rows", "size_t", 7), _size("cols", "size_t", 9),
            Argument("limit", "unsigned short", value="2000"), _array("hot", "long", 1, 0, 9),
        ),
        _case(
            "two_regions",
            _array("a", "float", 63), _array("tmp", "float", 63),
            _size("rows", number, 7), _size("cols", number, 9),
        ),
    )  # fmt: skip
