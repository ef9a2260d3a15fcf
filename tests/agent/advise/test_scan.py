"""`agent scan`: which loops are worth it."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent.advise.sources import sources
from agent.errors import InputError
from tests.conftest import SCHEMAS, SCRIPT, agent, environment
from tests.other_user import needs_root

LOOPS = """
#include "sizes.h"
void scale(int n, float *x) { for (int i = 0; i < n; i++) x[i] *= FACTOR; }
void product(int n, double *c, const double *a, const double *b)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            for (int k = 0; k < n; k++)
                c[i * n + j] += a[i * n + k] * b[k * n + j];
}
void walk(int n, float *x, int *next)
{
    for (int at = 0; at < n; at = next[at])
        for (int i = 0; i < 64; i++)
            x[i] += 1.0f;
}
"""


@pytest.fixture
def project(tmp_path):
    """Two files, one with a header of its own, and the commands that compile them."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "sizes.h").write_text("#define FACTOR 2.0f\n")
    (tmp_path / "loops.c").write_text(LOOPS)
    (tmp_path / "broken.c").write_text("this is no C\n")
    commands = [
        {
            "directory": str(tmp_path),
            "command": "cc -O3 -Wall -Iinclude -c loops.c -o loops.o",
            "file": "loops.c",
        },
        {"directory": str(tmp_path), "arguments": ["cc", "broken.c"], "file": "broken.c"},
        {"directory": str(tmp_path), "command": "c++ x.cc", "file": "x.cc"},
    ]
    (tmp_path / "compile_commands.json").write_text(json.dumps(commands))
    return tmp_path


@pytest.fixture(scope="module")
def validated():
    import jsonschema

    schema = json.loads((SCHEMAS / "scan.json").read_text())
    return lambda answer: jsonschema.validate(answer, schema)


def scanned(*arguments, state):
    return agent("scan", *arguments, "--state-dir", state, "--json")


def test_nests_of_a_project_are_found_the_most_promising_first(project, tmp_path, validated):
    ran = scanned(project / "compile_commands.json", "--other-sizes", 256, state=tmp_path / "s")
    assert ran.code == 0, ran.err
    validated(ran.json)
    read = [n for n in ran.json["nests"] if n["status"] == "read"]
    speedups = [n["promise"]["speedup"] for n in read]
    assert read[0]["function"] == "product"
    assert read[0]["sizes"] == {"n": 256}
    assert speedups == sorted(speedups, reverse=True)


def test_a_nest_that_is_not_read_says_why_and_those_inside_it_are_looked_at(project, tmp_path):
    ran = scanned(
        project / "loops.c", "--cflags", f"-I{project}/include", "--other-sizes", 64,
        state=tmp_path / "s",
    )  # fmt: skip
    walk = [n for n in ran.json["nests"] if n["function"] == "walk"]
    assert [(n["status"], n["nest"]) for n in walk] == [("read", None), ("refused", 1)]
    assert "how often the loop runs is not known" in walk[1]["reason"]


def test_sizes_that_are_missing_are_named(project, tmp_path):
    ran = agent(
        "scan", project / "loops.c", "--cflags", f"-I{project}/include", "--state-dir",
        tmp_path / "s",
    )  # fmt: skip
    assert ran.code == 0
    assert "Sizes that are not given: n." in ran.out


def test_a_file_that_is_no_c_is_told_and_the_others_are_read(project, tmp_path):
    ran = scanned(project, "--other-sizes", 16, state=tmp_path / "s")
    assert ran.code == 0
    assert [u["file"] for u in ran.json["unread"]] == [
        str(project / "broken.c"), str(project / "loops.c"),
    ]  # fmt: skip
    assert "sizes.h" in ran.json["unread"][1]["reason"]


def test_only_flags_that_change_how_a_file_is_read_or_optimised_are_taken(project):
    (found,) = [
        s for s in sources([project / "compile_commands.json"], ()) if "loops" in s.path.name
    ]
    assert found.cflags == ("-O3", f"-I{project / 'include'}")


@pytest.mark.parametrize("text", ["{", "{}", '"x"', "[" * 100_000])
def test_a_file_of_commands_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "compile_commands.json"
    path.write_text(text)
    with pytest.raises(InputError):
        sources([path], ())


def test_what_is_no_file_among_the_files_is_told_and_not_waited_for(tmp_path):
    (tmp_path / "good.c").write_text("void f(float *a) { for (int i = 0; i < 9; i++) a[i] = 1; }\n")
    os.mkfifo(tmp_path / "pipe.c")
    (tmp_path / "zero.c").symlink_to("/dev/zero")
    (tmp_path / "round.c").symlink_to("round.c")
    (tmp_path / "folder.c").mkdir()
    (tmp_path / "up").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.c"))
    ran = scanned(tmp_path, state=tmp_path / "s")
    assert ran.code == 0, ran.err
    assert [n["function"] for n in ran.json["nests"]] == ["f"]
    told = {Path(u["file"]).name: u["reason"] for u in ran.json["unread"]}
    assert told.keys() == {"pipe.c", "zero.c", "round.c", "socket.c"}
    assert "no plain file" in told["pipe.c"]


@needs_root  # to be somebody who may not read it
def test_a_folder_that_cannot_be_read_is_told(open_place, nobody):
    (open_place / "closed").mkdir(0o700)
    ran = nobody("scan", open_place, "--json", "--state-dir", open_place / "s")
    assert ran.code == 0, ran.err
    (unread,) = ran.json["unread"]
    assert unread["file"] == str(open_place / "closed")
    assert "Permission denied" in unread["reason"]


HOSTILE = (
    "cc @x -fplugin=x.so -Xclang -load -Xclang x.so -wrapper x -B. -o here; touch here `touch a`",
    "cc -I ../../../../../../etc -include ../../etc/passwd -D 'A=$(touch here)'",
    "cc -D'x",
    "cc -I",
    "cc " + "-DA=1 " * 50_000,
    "cc -D\ud800=1 -I\ud800",
)


def test_hostile_commands_run_nothing_and_end_nothing(tmp_path):
    (tmp_path / "a.c").write_text("void f(float *a) { for (int i = 0; i < 9; i++) a[i] = 1; }\n")
    here = str(tmp_path)
    commands = [{"directory": here, "command": c, "file": f"{n}.c"} for n, c in enumerate(HOSTILE)]
    for command in commands:
        (tmp_path / command["file"]).write_bytes((tmp_path / "a.c").read_bytes())
    odd = [
        {"directory": "\ud800", "command": "cc a.c", "file": "\ud800\0.c"},
        {"directory": here, "command": {}, "file": "a.c", "arguments": [[], {}, None]},
        {"file": 1},
        None,
    ]
    (tmp_path / "compile_commands.json").write_text(json.dumps(commands + odd))
    before = sorted(tmp_path.iterdir())
    ran = agent("scan", tmp_path / "compile_commands.json", "--state-dir", tmp_path / "s")
    assert ran.code == 0, ran.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        sources([tmp_path / "none"], ())


def test_remainders_do_not_keep_a_search_for_minutes(tmp_path):
    """One question of isl's took 94 s of processor time, and no signal ended it."""
    path = tmp_path / "remainders.c"
    path.write_text(
        "void f(int n, float *a) {\n"
        "    for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) for (int k = 0; k < n; k++)\n"
        "        a[(i*7 + j*13 + k*29) % 1009 + (i*3 + j*5) / 7]\n"
        "            += a[(i*11 + j*17) % 997] * a[(k*3 + j) / 5];\n}\n"
    )
    limited = ["prlimit", "--cpu=60", SCRIPT, "rank", path, "--size", "n=64", "--no-run"]
    command = [*limited, "--candidates", "5", "--state-dir", tmp_path / "s"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
