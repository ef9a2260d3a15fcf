"""Flags that change how a file is read, and those that do more."""

import pytest

from agent.errors import InputError
from agent.loopnest.frontend.flags import check_flags
from agent.loopnest.frontend.parse import parse
from tests.conftest import SIZES, agent


@pytest.mark.parametrize(
    "flags",
    [
        "-DN=4 -D M -UX -Iinclude -I include -isystem a -iquote b -include c.h",
        "-std=gnu99 -ansi -march=native -mavx2 -fopenmp -ffast-math -fno-math-errno",
        "-O -O0 -O2 -Os -Ofast",
    ],
)
def test_flags_that_change_how_a_file_is_read_are_passed_on(flags):
    check_flags(flags.split())


@pytest.mark.parametrize(
    "flags",
    [
        "-o x",
        "-ox",
        "-MD",
        "-MF x",
        "-Wp,-MD,x",
        "-dD",
        "-save-temps",
        "-fdump-tree-all",
        "-fplugin=x.so",
        "-fprofile-generate",
        "-fdiagnostics-format=json-file",
        "-mllvm -x",
        "-wrapper x",
        "-specs=x",
        "-B x",
        "-x c",
        "-O2 -o",
        "-Oout",
        "@x",
        "-D @x",
        "-I @x",
        "x.c",
        "-",
        "",
        "-I -o x",
    ],
)
def test_other_flags_are_refused_with_a_hint(flags):
    with pytest.raises(InputError, match="--cflags") as caught:
        check_flags(flags.split(" "))
    assert caught.value.hint


FIELDS = "struct p { char tag; double x; long n; } s;"


@pytest.mark.parametrize(
    ("flags", "offsets"),
    [
        ("", [0, 8, 16]),
        ("-fpack-struct", [0, 1, 9]),
        ("-fpack-struct -fno-pack-struct", [0, 8, 16]),
    ],
)
@pytest.mark.parametrize("by", ["cflags", "compiler", "CC"])
def test_flags_that_change_where_fields_lie_count_whoever_gives_them(
    tmp_path, monkeypatch, flags, offsets, by
):
    path = tmp_path / "k.c"
    path.write_text(FIELDS)
    if by == "CC":
        monkeypatch.setenv("CC", f"env gcc {flags}")
    named = f"env gcc {flags}" if by == "compiler" else None
    unit = parse(path, flags.split() if by == "cflags" else (), named)
    (variable,) = unit.variables.values()
    assert [field.offset for field in variable.type.fields] == offsets


UNKNOWN = ["-m32", "-mx32", "-m16", "-miamcu", "-mabi=ilp32", "-fsingle-precision-constant"]


@pytest.mark.parametrize("flag", UNKNOWN)
def test_flags_that_make_types_or_constants_others_are_refused(gemm, flag):
    ran = agent("predict", gemm, *SIZES, "--schedule", "original", CC=f"gcc {flag}")
    assert ran.code == 2
    assert f"{flag} changes what types or constants are" in ran.err


@pytest.mark.parametrize("flag", ["-D", "-I", "-include"])
def test_a_flag_without_its_value_is_refused(flag):
    with pytest.raises(InputError, match="lacks its value"):
        check_flags([flag])
