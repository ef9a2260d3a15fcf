"""Ctrl-C at a real terminal, while `agent tune` searches."""

import json
import os
import pty
import subprocess

import pytest

from tests.conftest import SCRIPT, agent, environment, valid
from tests.processes import all_end

SIZES = [word for n in ("ni", "nj", "nk") for word in ("--size", f"{n}=96")]
CTRL_C = b"\x03"
MARK = "AGENT_TEST_OF_CTRL_C"


class Terminal:
    """A terminal that a command belongs to, as in a shell: its keys reach the whole job."""

    def __init__(self, words, out):
        self._leader, follower = pty.openpty()
        env = environment(TERM="xterm", COLUMNS="100", **{MARK: str(os.getpid())})
        with out.open("wb") as stdout:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *map(str, words)],
                stdin=follower,
                stdout=stdout,
                stderr=follower,
                env=env,
            )
        os.close(follower)
        self.shown = b""

    def wait_for(self, words):
        while words not in self.shown:
            self.shown += os.read(self._leader, 4096)

    def press(self, key):
        os.write(self._leader, key)

    def end(self):
        """What was shown until its end."""
        try:
            while part := os.read(self._leader, 4096):
                self.shown += part
        except OSError:  # nobody is at its other side any more
            pass
        os.close(self._leader)
        return self.process.wait()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A search that was interrupted once it had found something: answer, exit code, folder."""
    place = tmp_path_factory.mktemp("interrupted")
    (place / "gemm.c").write_text(
        "void gemm(int ni, int nj, int nk, float C[ni][nj], float A[ni][nk], float B[nk][nj]) {\n"
        "for (int i = 0; i < ni; i++)\nfor (int j = 0; j < nj; j++)\n"
        "for (int k = 0; k < nk; k++)\nC[i][j] += A[i][k] * B[k][j];\n}\n"
    )
    more = ("--budget", "40s", "--out", place / "tuned.c", "--save", place / "log.jsonl", "--json")
    words = (SCRIPT, "tune", place / "gemm.c", *SIZES, *more, "--state-dir", place / "state")
    terminal = Terminal(words, place / "answer")
    terminal.wait_for(b"best so far")
    terminal.press(CTRL_C)
    code = terminal.end()
    assert code == 0, terminal.shown.decode()
    return valid(json.loads((place / "answer").read_text()), "tune"), terminal.shown, place


def test_ctrl_c_ends_a_search_with_the_best_so_far_and_writes_it(interrupted):
    answer, shown, place = interrupted
    assert answer["stopped"] == "interrupted"
    assert answer["winner"]["own_speedup"] > 1
    assert answer["winner"] in answer["finalists"]
    written = (place / "tuned.c").read_text().replace("\n *  ", "")
    assert f"Schedule: {answer['winner']['schedule']}" in written
    assert answer["check"]["runs"] > 0
    assert b"Traceback" not in shown


def test_nothing_of_a_search_that_was_interrupted_is_left_running(interrupted):
    assert all_end(f"{MARK}={os.getpid()}")


def test_a_search_goes_on_from_what_was_timed_before_it_was_interrupted(interrupted):
    answer, _, place = interrupted
    log = place / "log.jsonl"
    timed = {json.loads(line)["schedule"] for line in log.read_text().splitlines()}
    assert len(timed) >= len(answer["tried"]) > 0
    more = ("--budget", "3s", "--from", log, "--json", "--state-dir", place / "state")
    again = agent("tune", place / "gemm.c", *SIZES, *more)
    assert again.code == 0, again.err
    assert f"{len(timed)} schedules timed before" in again.json["notes"][0]
