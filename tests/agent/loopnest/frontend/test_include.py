"""The small headers that C files are read with."""

import re
import subprocess

from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.frontend.unit import INCLUDE


def constants(text):
    return re.findall(r"#define ([A-Z]\w+) ", text)


def test_types_and_limits_are_those_of_the_platforms_own_headers(tmp_path):
    texts = {name: (INCLUDE / name).read_text() for name in ("stdint.h", "limits.h")}
    types = re.findall(r"(\w+_t);", texts["stdint.h"])
    names = dict.fromkeys(name for text in texts.values() for name in constants(text))
    lines = [f"#include <{name}>" for name in texts]
    lines += [f"int size_of_{t} = ({t})-1 < 0 ? -sizeof({t}) : sizeof({t});" for t in types]
    lines += [
        f"unsigned long value_of_{n} = {n}; int kind_of_{n} = ({n}) * 0 - 1 < 0 ? -sizeof({n}) : 1;"
        for n in names
    ]
    source = tmp_path / "limits.c"
    source.write_text("\n".join(lines))

    def compiled(*flags):
        command = ["cc", "-w", "-S", "-o", "-", *flags, source]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert compiled("-I", INCLUDE) == compiled()


def test_what_files_use_of_standard_headers_beside_their_loops_is_known():
    text = """
    #include <limits.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <sys/time.h>
    uint_fast8_t width;
    struct timezone zone;
    unsigned last(int n) { return n ? UINT_MAX : SEEK_END; }
    int64_t least(void) { return INT64_MIN; }
    """
    assert parse_text(text, "k.c").errors == ()
