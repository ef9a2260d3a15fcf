"""Flags that change how a file is read, and those that do more."""

import pytest

from agent.errors import InputError
from agent.loopnest.frontend.flags import check_flags


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


@pytest.mark.parametrize("flag", ["-D", "-I", "-include"])
def test_a_flag_without_its_value_is_refused(flag):
    with pytest.raises(InputError, match="lacks its value"):
        check_flags([flag])
