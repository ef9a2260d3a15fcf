"""The hourly look, while nothing is due, leaves no trace on the disk."""

import re
import shutil
import subprocess

import pytest

from tests.conftest import SCRIPT, environment

LOOK = ("calibrate", "--if-due", "--when-quiet")
# What may change a file, its name or its marks; -y shows which file a descriptor is of.
TRACED = "%file,write,pwrite64,writev,pwritev,ftruncate,fchmod,fchown,fallocate,fsync,fdatasync"
CHANGES = re.compile(
    r"O_CREAT|O_TRUNC|O_TMPFILE"
    r"|^\d+ (rename|unlink|mkdir|rmdir|link|symlink|mknod|creat|truncate|ftruncate|chmod|fchmod"
    r"|chown|fchown|lchown|utime|futimesat|setxattr|fallocate|fsync|fdatasync)"
    r"|^\d+ p?writev?(64)?\(\d+</(?!dev/null>)"
)


@pytest.fixture
def state(tmp_path, calibrated):
    """A calibrated state of this test's own."""
    return shutil.copytree(calibrated, tmp_path / "state")


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_look_that_finds_nothing_due_changes_no_file_anywhere(state, tmp_path, tiny_bundle):
    words = (SCRIPT, *LOOK, "--state-dir", state, "--bundle", tiny_bundle)
    env = environment(PYTHONDONTWRITEBYTECODE="1")  # of packages that nobody compiled beforehand
    trace = tmp_path / "trace"
    strace = (
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-y",
        "-e",
        f"trace={TRACED}",
        "-e",
        "signal=none",
    )
    done = subprocess.run(
        [*strace, "-o", trace, *words], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 7, done.stderr
    calls = [c for c in trace.read_text().splitlines() if not re.search(r"= -1 E\w+ ", c)]
    assert len(calls) > 100  # it was traced
    assert [c for c in calls if CHANGES.search(c) and '"/dev/null"' not in c] == []
