"""Names of files are bytes, and C files are of any age: whatever they hold, the commands work."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import GEMM, SCRIPT, SIZES, UNTIMED, agent, environment

LATIN_1 = os.fsdecode(b"gr\xfcn")
COMMENT = b"/* f\xfcr alle */\n"
WORDS = (
    "status",
    "history",
    "doctor",
    "check",
    "self-test",
    "report --show",
    "bundle list",
    "status --report PLACE/page.html",
    "report --export PLACE/reports",
    "predict FILE --schedule original --no-run",
    "measure FILE --schedule original",
)
LOCALES = {
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "ASCII": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def run(*words, **env):
    """A command of bytes; a check times nothing, which would take most of all this time."""
    script = UNTIMED if words[0] == "check" else (SCRIPT,)
    command = list(map(os.fsencode, (*script, *words)))
    on = environment(AGENT_BUDGET="2s", **env)
    done = subprocess.run(command, capture_output=True, check=False, env=on, timeout=120)
    assert b"Traceback" not in done.stderr
    assert b"bug" not in done.stderr, done.stderr
    return done


@pytest.fixture
def place(calibrated, tmp_path):
    """A directory with a name that is no UTF-8; a state and a C file in it."""
    folder = tmp_path / LATIN_1
    folder.mkdir()
    shutil.copytree(calibrated, folder / "state")
    (folder / f"{LATIN_1}.c").write_bytes(b"#define SOME 1\n" + COMMENT + GEMM.encode())
    return folder


@pytest.mark.parametrize(
    ("words", "locale"),
    [*((words, "ASCII") for words in WORDS), ("status", "UTF-8"), (WORDS[-2], "UTF-8")],
)
def test_every_command_works_where_names_are_no_utf_8(place, words, locale):
    file = str(place / f"{LATIN_1}.c")
    given = [w.replace("FILE", file).replace("PLACE", str(place)) for w in words.split()]
    sizes = SIZES if "FILE" in words else ()
    state = ("--state-dir", place / "state")
    done = run(*given, *sizes, *state, **LOCALES[locale])
    assert done.returncode in (0, 7, 8, 9), done.stderr


def test_a_repository_in_such_a_directory_is_asked(place):
    done = run("update", "--from", place, "--root", place / "none")
    assert done.returncode == 2
    assert b"none" in done.stderr


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("macro", [b"", b"#define SOME 1\n"], ids=["as it is", "with a macro"])
def test_a_file_with_latin_1_in_its_comments_is_read(tmp_path, before, macro):
    path = tmp_path / "old.c"
    path.write_bytes(before + macro + COMMENT + GEMM.encode())
    asked = ("predict", path, "--schedule", "original", "--no-run", *SIZES)
    ran = agent(*asked, "--state-dir", tmp_path / "none")
    assert ran.code == 0, ran.err


def test_what_is_beyond_ascii_outside_comments_is_refused_at_its_place(tmp_path):
    path = tmp_path / "old.c"
    path.write_bytes(GEMM.replace("+= A", "+= \xfc").encode("latin-1"))
    done = run("predict", path, "--schedule", "original", *SIZES, "--state-dir", tmp_path / "none")
    assert done.returncode == 2
    assert b"old.c:8:" in done.stderr
