"""`benchmarks/peers.py`: what peers offer is run, checked and timed as a person's function is."""

import json
import shutil

import pytest

from agent.advise.advise import Request, read_source
from agent.settings.config import Config
from benchmarks import peers
from benchmarks.peers_compilers import compilers
from benchmarks.peers_plot import draw
from benchmarks.peers_protocol import Kernel, PeerError, Task, Version

SIZES = {"ni": 48, "nj": 40, "nk": 32}
GCC = ("gcc", "-std=gnu11", "-O2")


class Peer:
    """Offers what it was given."""

    name, install = "peer", ""

    def __init__(self, *offered):
        self.offered = offered

    def versions(self, _):
        for version in self.offered:
            if isinstance(version, Exception):
                raise version
            yield version


@pytest.fixture
def task(gemm, tmp_path):
    kernel = Kernel("gemm", gemm, "gemm", SIZES)
    source = read_source(Config(tmp_path / "state"), Request(gemm, "gemm", SIZES, ()))
    return Task(kernel, source, tmp_path, 60.0, tmp_path / "state")


@pytest.fixture
def harness(task):
    return peers.Harness.of(task.kernel, task.source, task.folder)


def changed(task, name, *replaced):
    file = task.folder / f"{name}.c"
    file.write_text(task.kernel.path.read_text().replace(*replaced))
    return Version(name, file, GCC)


def test_the_best_of_what_a_peer_offers_is_kept_with_the_time_it_was_found(task, harness):
    wait = "static float wait(float x) { for (volatile int w = 0; w < 9; w++) {} return x; }"
    slow = changed(task, "slow", "A[i][k] *", "wait(A[i][k]) *")
    slow.file.write_text(f"{wait}\n{slow.file.read_text()}")
    good = Version("good", task.kernel.path, GCC)
    found = peers.tried(Peer(slow, good), task, harness)
    assert found.best == good
    assert 0 < found.seconds < found.curve[0][1]
    assert 0 < found.curve[0][0] < found.found_s <= found.took_s
    rounds = peers.final(harness, {"peer": found})
    assert len(rounds["peer"]) == peers.ROUNDS


def test_what_does_something_else_fails_or_does_not_compile_is_dropped_and_told(task, harness):
    wrong = changed(task, "wrong", "+=", "-=")
    crash = changed(task, "crash", "C[i][j] +=", "__builtin_trap(); C[i][j] +=")
    refused = changed(task, "refused", "C[i][j]", "no[i][j]")
    found = peers.tried(Peer(wrong, crash, refused, PeerError("no more")), task, harness)
    assert found.best is None
    assert [why.split(":")[0] for why in found.dropped] == ["wrong", "crash", "refused", "no more"]
    assert "other results" in found.dropped[0]
    assert peers.final(harness, {"peer": found}) == {}


def test_no_more_is_asked_for_once_the_time_is_over(task, harness):
    good = Version("good", task.kernel.path, GCC)
    hurried = Task(task.kernel, task.source, task.folder, 0.0, task.state_dir)
    assert len(peers.tried(Peer(good, RuntimeError("asked")), hurried, harness).curve) == 1


def test_a_compiler_is_a_peer_with_its_flags(task, harness):
    gcc = compilers()[0]
    assert gcc.version().startswith("gcc")
    assert peers.tried(gcc, task, harness).best.what == "-O3"


def test_what_is_not_installed_is_no_peer(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert [p.version() for p in compilers()] == [None] * len(compilers())


def entry(seconds, course=()):
    return {"seconds": seconds, "found_s": 1.5, "course": course, "dropped": []}


def figures():
    own = entry(1e-3, [(1.0, 2.0), (3.0, 4.0)])
    kernels = {
        "one": {"peers": {"gcc -O3": entry(4e-3), "Polly": entry(2e-3), "agent tune": own}},
        "two": {"peers": {"gcc -O3": entry(4e-3), "Polly": entry(None), "agent tune": own}},
    }
    return {"peers": dict.fromkeys(("gcc -O3", "Polly", "agent tune"), "1.0"), "kernels": kernels}


def test_a_peer_is_judged_by_the_kernels_that_both_did():
    table = peers.markdown(figures())
    assert "| one | 1.00 x (1.5 s) | 2.00 x (1.5 s) | 4.00 x (1.5 s) |" in table
    assert "| two | 1.00 x (1.5 s) | - | 4.00 x (1.5 s) |" in table
    assert "| Polly | 2.00 | 1 of 1 | 1.5 |" in table
    assert "| gcc -O3 | 4.00 | 2 of 2 | 1.5 |" in table


def test_the_same_figures_give_the_same_drawing(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        draw(json.loads(json.dumps(figures())), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
