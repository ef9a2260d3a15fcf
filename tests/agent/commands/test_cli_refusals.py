"""What the commands refuse, and the hint that goes with it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundles import cli
from tests.conftest import SCRIPT, SIZES, agent, environment
from tests.other_user import NOBODY, become, needs_root, readable, run

SHARE = """
void f(int n, float B[n+8][n+8]) {
#pragma scop
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++)
      B[i][i+1] += B[j+2][j+4];
#pragma endscop
}
"""


def refused(ran, words, hint):
    assert ran.code == 2, ran.err
    assert words in ran.err
    assert f"hint: {hint}" in ran.err
    assert "Traceback" not in ran.err


LOOP = "void f(int n, float *a) { for (int i = 0; i < n; i++) a[i] *= 2; }\n"


@needs_root
@pytest.mark.parametrize(
    ("words", "text", "code"),
    [
        ("calibrate --budget 3s", "", 3),
        ("doctor", "", 3),
        ("emit FILE --size n=9 --schedule original", LOOP, 3),
        ("rank FILE --size n=9", "#define TWICE(x) x + x\n" + LOOP, 3),  # read by a child
        ("rank FILE --size n=9", LOOP, 0),  # in this process, by clang without threads
    ],
)
def test_where_no_process_or_thread_may_be_started_that_is_said(open_place, words, text, code):
    file = open_place / "k.c"
    file.write_text(text)
    alone = SimpleNamespace(
        pw_uid=54_399, pw_gid=54_399
    )  # nobody may have processes of other tests
    (open_place / "state").mkdir()
    os.chown(open_place / "state", alone.pw_uid, alone.pw_gid)
    nobody = [*readable(open_place), "prlimit", "--nproc=1", *become(alone)]
    words = words.replace("FILE", str(file)).split()
    ran = run(nobody, *words, "--state-dir", open_place / "state")
    assert ran.code == code, ran.err
    assert ("no more processes or threads may be started here" in ran.err) == (code == 3)


def test_schedules_without_an_end_are_refused(gemm, tmp_path):
    limited = ["prlimit", f"--as={4 << 30}", SCRIPT, "measure", gemm, *SIZES]
    command = [*limited, "--from", "/dev/zero", "--state-dir", tmp_path / "state"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    assert "/dev/zero holds more than 1,048,576 letters" in done.stderr


def test_what_cannot_be_measured_is_not_predicted(tmp_path):
    path = tmp_path / "share.c"
    path.write_text(SHARE)
    for command in ("predict", "measure"):
        ran = agent(
            *(command, path, "--size", "n=30", "--schedule", "vectorize j"),
            *("--state-dir", tmp_path / "state"),
        )
        refused(ran, "OpenMP cannot share out", "Mark a loop")


def test_a_variable_without_a_value_is_refused_with_its_place(tmp_path):
    path = tmp_path / "uninit.c"
    path.write_text("void f(float a[9]) {\n#pragma scop\nfloat t;\na[1] = t;\n#pragma endscop\n}")
    ran = agent("predict", path, "--schedule", "original", "--state-dir", tmp_path)
    refused(ran, f"{path}:4:8: 't' is read before", "Give it its first value")


def test_an_empty_database_is_no_calibration(tmp_path):
    (tmp_path / "state.sqlite").touch()
    ran = agent("status", "--json", "--state-dir", tmp_path)
    assert ran.code == 0, ran.err
    none = agent("status", "--json", "--state-dir", tmp_path / "none")
    assert ran.json | {"state_dir": ""} == none.json | {"state_dir": ""}


def test_flags_that_write_files_are_refused(gemm, tmp_path):
    flags = f"-o {tmp_path / 'x'} -DN=1"
    ran = agent("predict", gemm, *SIZES, "--schedule", "original", "--cflags", flags)
    refused(ran, "--cflags: '-o' is not a flag", "Flags: -D -U -I")
    assert not (tmp_path / "x").exists()


def test_an_option_before_the_command_is_told_where_to_go(tmp_path):
    ran = agent("--state-dir", tmp_path, "status")
    refused(ran, "No such option: --state-dir", "Options follow the command, as in `agent status")


def test_an_unknown_option_of_a_command_is_not_told_to_move():
    ran = agent("status", "--colour")
    refused(ran, "No such option: --colour", "Example: agent status --json.")


@pytest.mark.parametrize("size", ["n", "n=x", "n=0"])
def test_a_malformed_size_shows_how_to_write_it(gemm, size):
    ran = agent("predict", gemm, "--size", size, "--schedule", "original")
    refused(ran, f"--size '{size}'", "Write ")


def test_a_second_size_without_its_option_shows_the_right_form(gemm):
    ran = agent("rank", gemm, "--size", "ni=8", "nj=8")
    refused(ran, "not expected here: nj=8", "Repeat the option for each: --size nj=8.")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("calibrate --budget", "requires an argument", "Example: agent calibrate"),
        ("calibrate 20s", "not expected here: 20s", "`agent calibrate` takes options only."),
        ("rank x.c -size n=8", "-size. Did you mean --size?", "Example: agent rank"),
        ("rank x.c -top=8", "-top=8. Did you mean --top?", "Example: agent rank"),
        ("calibration 3", "No such command '3'", "Commands: use."),
        ("config shw", "Did you mean 'show'?", "Commands: show, check."),
        ("help rank", "No such command 'help'", "The help of a command: `agent COMMAND --help`."),
        ("rank x.c --export xml", "'xml' is not one of 'csv', 'md'", "Example: agent rank"),
    ],
)
def test_half_a_command_line_is_told_the_right_form(words, message, hint):
    refused(agent(*words.split()), message, hint)


def test_a_missing_argument_shows_an_example():
    refused(agent("rank"), "Missing argument", "Example: agent rank gemm.c")


def test_bundles_calls_a_hint_a_hint(capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["bundles", "inspect", str(tmp_path)])
    assert cli.main() == 2
    assert "\nhint: " in capsys.readouterr().err


@needs_root
def test_root_reads_somebodys_file_with_no_more_rights_than_theirs(open_place, as_root):
    secret, path = open_place / "secret.h", open_place / "theirs.c"
    secret.write_text("#define N 8\n")
    secret.chmod(0o600)
    path.write_text(
        '#include "secret.h"\nvoid f(float a[N]) {\n#pragma scop\n'
        "for (int i = 0; i < N; i++)\na[i] = 1;\n#pragma endscop\n}\n"
    )
    os.chown(path, NOBODY.pw_uid, -1)
    ran = as_root("rank", path, "--state-dir", open_place / "state")
    refused(ran, "secret.h': Permission denied", "It is not C as a compiler")
