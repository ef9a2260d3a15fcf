"""`benchmarks/peers.py`: what peers offer is run, checked and timed as a person's function is."""

import argparse
import json
import shutil
import sys
import time

import numpy as np
import pytest

from agent.advise.advise import Request, read_source
from agent.settings.config import Config
from benchmarks import peers, peers_harness, peers_page
from benchmarks.peers_compilers import compilers
from benchmarks.peers_harness import ROUNDS, Harness, final, tried
from benchmarks.peers_loops import FIRST_WORDS, Agent, Pluto
from benchmarks.peers_plot import draw, speed_after
from benchmarks.peers_protocol import THREADS, Kernel, PeerError, Task, Version, apart
from benchmarks.peers_tables import first_ahead, markdown
from tests.processes import all_end

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
    return Harness.of(task.kernel, task.source, task.folder)


def changed(task, name, *replaced):
    file = task.folder / f"{name}.c"
    file.write_text(task.kernel.path.read_text().replace(*replaced))
    return Version(name, file, GCC)


def test_the_best_of_what_a_peer_offers_is_kept_with_the_time_it_was_found(task, harness):
    wait = "static float wait(float x) { for (volatile int w = 0; w < 9; w++) {} return x; }"
    slow = changed(task, "slow", "A[i][k] *", "wait(A[i][k]) *")
    slow.file.write_text(f"{wait}\n{slow.file.read_text()}")
    good = Version("good", task.kernel.path, GCC)
    found = tried(Peer(slow, good), task, harness)
    assert found.best == good
    assert 0 < found.seconds < found.curve[0][1]
    assert 0 < found.curve[0][0] < found.found_s <= found.took_s
    rounds = final(harness, {"peer": found})
    assert len(rounds["peer"]) == ROUNDS


def test_what_does_something_else_fails_or_does_not_compile_is_dropped_and_told(task, harness):
    wrong = changed(task, "wrong", "+=", "-=")
    crash = changed(task, "crash", "C[i][j] +=", "__builtin_trap(); C[i][j] +=")
    refused = changed(task, "refused", "C[i][j]", "no[i][j]")
    found = tried(Peer(wrong, crash, refused, PeerError("no more")), task, harness)
    assert found.best is None
    told = dict(why.partition(":")[::2] for why in found.dropped)
    assert set(told) == {"wrong", "crash", "refused", "no more"}
    assert "other results" in told["wrong"]
    assert final(harness, {"peer": found}) == {}


def test_no_more_is_asked_for_once_the_time_is_over(task, harness):
    good = [Version("good", task.kernel.path, GCC)] * THREADS
    hurried = Task(task.kernel, task.source, task.folder, 0.0, task.state_dir)
    assert len(tried(Peer(*good, RuntimeError("asked")), hurried, harness).curve) == 1


def test_versions_are_compiled_at_once_and_timed_one_after_another(task, harness, monkeypatch):
    monkeypatch.setattr(peers_harness, "THREADS", 2)
    compiler = task.folder / "compiler"
    compiler.write_text(
        f"#!/bin/sh\ncd {task.folder}; touch $1.here; shift\nfor n in $(seq 100); do "
        "[ -e a.here ] && [ -e b.here ] && exec gcc $@; sleep 0.1; done; exit 1\n"
    )
    compiler.chmod(0o755)
    versions = [Version(x, task.kernel.path, (str(compiler), x, *GCC[1:])) for x in "ab"]
    assert tried(Peer(*versions), task, harness).dropped == []


def test_what_is_not_compiled_in_time_is_dropped(task, harness, monkeypatch):
    monkeypatch.setattr(peers_harness, "COMPILES_S", 0.1)
    slow = Version("slow", task.kernel.path, ("sh", "-c", "sleep 600"))
    found = tried(Peer(slow), task, harness)
    assert found.dropped == ["slow: the compiler did not end"]
    assert found.took_s < 300


def test_what_a_peer_started_ends_with_it(tmp_path):
    began, mark = time.monotonic(), {"PEER_OF": str(tmp_path)}
    assert apart(["sh", "-c", "sleep 600 & wait"], 0.5, more=mark).status is None
    assert time.monotonic() - began < 60
    assert all_end(f"PEER_OF={tmp_path}")


LEFT = """
void left(int n, double x[n], double y[n], double z[n])
{
    for (int i = 0; i < n; i++)
        z[i] = x[i] * y[i];
    for (int i = 0; i < n; i++)
        x[i] = (x[i] * y[i] - z[i]) * 1e16; /* 0, or what a multiply-add leaves */
}
"""


@pytest.fixture
def left(tmp_path):
    file = tmp_path / "left.c"
    file.write_text(LEFT)
    kernel = Kernel("left", file, "left", {"n": 50})
    source = read_source(Config(tmp_path / "state"), Request(file, "left", kernel.sizes, ()))
    return Task(kernel, source, tmp_path, 60.0, tmp_path / "state")


def test_a_compiler_that_rounds_otherwise_is_not_dropped(left):
    harness = Harness.of(left.kernel, left.source, left.folder)
    assert tried(compilers()[0], left, harness).dropped == []


def test_what_hangs_on_rounding_is_not_compared_and_the_rest_is(left):
    plan = Harness.of(left.kernel, left.source, left.folder).plan
    one, two, far, wrong = (
        np.repeat((x, 1.0, z), 50).tobytes() for x, z in ((0.0, 5), (2.0, 5), (9.0, 5), (0.0, 6))
    )
    unsteady = plan.unsteady(one, two)
    assert plan.same(one, plan.settled(far, one, unsteady))
    assert not plan.same(one, plan.settled(wrong, one, unsteady))


def test_a_square_matrix_has_a_diagonal_that_outweighs_its_rows(tmp_path):
    file = tmp_path / "solve.c"
    file.write_text(
        "void solve(int n, double A[n][n], double x[n]) { for (int i = 0; i < n; i++) "
        "{ for (int j = 0; j < i; j++) x[i] -= A[i][j] * x[j]; x[i] = x[i] / A[i][i]; } }"
    )
    kernel = Kernel("solve", file, "solve", {"n": 50})
    source = read_source(Config(tmp_path / "state"), Request(file, "solve", kernel.sizes, ()))
    inputs = Harness.of(kernel, source, tmp_path).plan.inputs(0)
    matrix = np.frombuffer(inputs, "f8", 50 * 50).reshape(50, 50)
    rest = matrix - np.diag(np.diag(matrix))
    assert (np.diag(matrix) > rest.sum(axis=1) / 2).all()
    assert rest.max() <= 2.5


def test_what_is_not_installed_is_no_peer(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert [p.version() for p in compilers()] == [None] * len(compilers())


# --- Pluto and the agent --------------------------------------------------------------------------

POLYCC = """#!{python}
import sys
from pathlib import Path
given, *options, _, made = sys.argv[1:]
text = Path(given).read_text()
if {refused!r} in options or ({reader!r} and {reader!r} not in options):
    sys.exit(1)
sizes = Path("tile.sizes")
lines = ["/*", " ".join(options), sizes.read_text() if sizes.exists() else "", "*/", text]
Path(made).write_text("\\n".join(lines))
Path(given).write_text("moved about")
"""


@pytest.fixture
def polycc(tmp_path, monkeypatch):
    """Something that is called as Pluto is: refuses an option, or all that pet does not read."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place), prepend=":")

    def made(refused="", reader=""):
        script = place / "polycc"
        script.write_text(POLYCC.format(python=sys.executable, refused=refused, reader=reader))
        script.chmod(0o755)

    return made


def test_pluto_makes_a_version_with_each_set_of_options_that_it_takes(task, polycc):
    polycc(refused="--maxfuse")
    made = {v.what: v.file.read_text() for v in Pluto().versions(task)}
    assert set(Pluto.ways) - set(made) == {"tile, parallel, most fusion"}
    assert "--tile --parallel --nofuse" in made["tile, parallel, no fusion"]
    assert "64\n64\n" in made["tiles of 64, parallel"]


def test_pluto_works_on_a_copy_of_the_file(task, polycc):
    polycc()
    before = task.kernel.path.read_text()
    assert list(Pluto().versions(task))
    assert task.kernel.path.read_text() == before


def test_what_clan_refuses_pluto_reads_with_pet(task, polycc):
    polycc(reader="--pet")
    made = list(Pluto().versions(task))
    assert len(made) == len(Pluto.ways)
    assert all("--pet" in version.file.read_text() for version in made)


def test_pluto_writes_no_more_once_its_time_is_over(task, polycc):
    polycc()
    hurried = Task(task.kernel, task.source, task.folder, 0.0, task.state_dir)
    assert [v.what for v in Pluto().versions(hurried)] == [next(iter(Pluto.ways))]


def test_macros_of_the_command_line_are_in_the_file_that_pluto_reads(task, polycc):
    polycc()
    kernel = Kernel("gemm", task.kernel.path, "gemm", SIZES, ("-DLARGE", "-DN=4", "-Ihere"))
    given = Task(kernel, task.source, task.folder, 60.0, task.state_dir)
    assert "#define LARGE 1\n#define N 4\n" in next(iter(Pluto().versions(given))).file.read_text()


def test_pluto_cannot_do_loops_that_nobody_marked(task, polycc):
    polycc()
    task.kernel.path.write_text(task.kernel.path.read_text().replace("#pragma scop", ""))
    with pytest.raises(PeerError, match="scop"):
        list(Pluto().versions(task))


def test_what_passes_before_the_agent_searches_counts_too(task):
    says = f"import sys, time; time.sleep(0.3); print({FIRST_WORDS!r}, file=sys.stderr); print(7)"
    read_s, answer = Agent()._answer([sys.executable, "-c", says], task)
    assert read_s >= 0.3
    assert answer == 7


def test_the_agents_last_words_say_why_it_failed(task):
    fails = "import sys; print('error: no loops', file=sys.stderr); sys.exit(3)"
    with pytest.raises(PeerError, match="no loops"):
        Agent()._answer([sys.executable, "-c", fails], task)


# --- a whole run ----------------------------------------------------------------------------------


def test_a_kernel_begins_only_where_the_longest_so_far_would_end_in_time():
    when = peers.Schedule(kernels=4, about_s=50.0, within_s=120.0)
    assert when.left_s([]) == 200
    assert when.left_s([40.0, 60.0]) == 100
    assert when.fits([40.0], 80.0)
    assert not when.fits([41.0], 80.0)


def test_a_run_goes_on_with_what_its_file_holds_unless_it_is_of_another(tmp_path):
    place = tmp_path / "peers.json"
    kept = {"budget_s": 20.0, "peers": {"gcc": "12"}, "kernels": {"one": {"peers": {}}}}
    place.write_text(json.dumps(kept))
    same = {"budget_s": 20.0, "peers": {"gcc": "12"}}
    assert peers.begun(place, same, resume=True) == kept
    assert peers.begun(place, same, resume=False)["kernels"] == {}
    assert peers.begun(tmp_path / "none.json", same, resume=True)["kernels"] == {}
    with pytest.raises(SystemExit, match="not the same peers"):
        peers.begun(place, {"budget_s": 20.0, "peers": {"gcc": "13"}}, resume=True)


def test_a_kernel_that_cannot_be_run_is_left_out_and_told(tmp_path, monkeypatch):
    def compared(kernel, *_):
        if kernel.name == "bad":
            raise PeerError("no loops")
        return {"sizes": {}, "peers": {"gcc -O3": entry(1.0, [])}}

    monkeypatch.setattr(peers, "compared", compared)
    todo = [Kernel(name, tmp_path, name, {}) for name in ("bad", "good")]
    found = {"peers": {"gcc -O3": "12"}, "kernels": {}}
    told = argparse.Namespace(budget=1.0, within=10.0, state_dir=None, json=tmp_path / "found.json")
    peers.run(found, todo, [], told)
    assert list(found["kernels"]) == ["bad", "good"]
    assert json.loads(told.json.read_text()) == found
    assert "- bad: no loops" in markdown(found)


def test_all_of_polybench_takes_part_and_what_is_over_at_once_with_larger_sizes(tmp_path):
    for name in ("mvt", "two"):
        (tmp_path / name).mkdir()
        place = tmp_path / name / name
        sizes = (("MEDIUM", 30), ("LARGE", 400))
        header = (f"# ifdef {n}_DATASET\n# define N {size}\n# endif\n" for n, size in sizes)
        place.with_suffix(".h").write_text("".join(header))
        place.with_suffix(".c").write_text(
            f"static void kernel_{name}(int n, double A[n]) {{ for (int i = 0; i < n; i++) "
            "A[i] = 0; }\nint main(void) { return 0; }\n"
        )
    found = peers.kernels(tmp_path, None, [])
    assert [(k.name, k.function, k.sizes) for k in found] == [
        ("mvt", "kernel_mvt", {"n": 400}),
        ("two", "kernel_two", {"n": 30}),
    ]
    assert "-DLARGE_DATASET" in found[0].cflags
    assert [k.sizes["n"] for k in peers.kernels(tmp_path, "MEDIUM", [])] == [30, 30]
    assert [k.name for k in peers.kernels(tmp_path, None, ["two"])] == ["two"]


# --- what it says ---------------------------------------------------------------------------------


def entry(seconds, course=(), curve=()):
    return {
        "seconds": seconds, "found_s": 1.5, "course": course, "curve": list(curve), "dropped": []
    }  # fmt: skip


def figures():
    own = entry(1e-3, [(1.0, 2.0), (3.0, 4.0)])
    kernels = {
        "one": {"peers": {"gcc -O3": entry(4e-3), "Polly": entry(2e-3), "agent tune": own}},
        "two": {"peers": {"gcc -O3": entry(4e-3), "Polly": entry(None), "agent tune": own}},
    }
    return {"peers": dict.fromkeys(("gcc -O3", "Polly", "agent tune"), "1.0"), "kernels": kernels}


def test_a_peer_is_judged_by_the_kernels_that_both_did():
    table = markdown(figures())
    assert "| one | 1.00 x (1.5 s) | 2.00 x (1.5 s) | 4.00 x (1.5 s) | 3.0 s |" in table
    assert "| two | 1.00 x (1.5 s) | - | 4.00 x (1.5 s) | 1.0 s |" in table
    assert "| Polly | 2.00 | 1 of 1 | 1.5 |" in table
    assert "| gcc -O3 | 4.00 | 2 of 2 | 1.5 |" in table
    assert "| the best of these | 2.83 | 2 of 2 | |" in table


def test_a_peer_that_took_part_in_no_kernel_has_no_column():
    found = figures()
    for result in found["kernels"].values():
        result["peers"]["Polly"] = entry(None)
    assert "Polly" not in markdown(found)


def test_the_agent_is_ahead_from_its_first_version_that_beats_all_that_tune_nothing():
    own = entry(1e-3, [(1.0, 2.0), (3.0, 4.0), (5.0, 4.1)])
    one = {"gcc -O3": entry(4e-3), "Polly": entry(2e-3), "TVM": entry(1e-4), "agent tune": own}
    assert first_ahead(one) == 3.0
    assert first_ahead({**one, "Polly": entry(9e-4)}) is None
    assert first_ahead({**one, "agent tune": entry(1e-3)}) == 1.5
    assert first_ahead({**one, "agent tune": entry(None)}) is None


def test_what_a_peer_had_after_some_seconds_is_the_best_it_had_found_by_then():
    one = {
        "gcc -O3": entry(4e-3),
        "Polly": entry(1e-3, curve=[(0.5, 2e-3), (1.5, 1.1e-3)]),
        "agent tune": entry(2e-3, [(0.5, 1.5), (1.0, 2.5)]),
        "Pluto": entry(None),
    }
    assert [speed_after(one, "Polly", s) for s in (0.1, 0.5, 9)] == [1, 2, 4]
    assert [speed_after(one, "agent tune", s) for s in (0.1, 0.5, 1, 9)] == [1, 1.5, 2, 2]
    assert speed_after(one, "Pluto", 9) == 1
    assert speed_after({"Polly": entry(1e-3)}, "Polly", 9) is None


PAGE = "# Peers\n\n<!-- own -->\nold\n<!-- end of own -->\n\nWords about it.\n"


def test_figures_of_a_run_take_the_place_of_the_last_ones_and_words_stay(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    page, run = tmp_path / "peers.md", tmp_path / "own.json"
    page.write_text(PAGE)
    facts = {"machine": {"model": "M", "threads": 2}, "budget_s": 20.0, "dataset": None}
    run.write_text(json.dumps({**facts, **figures()}))
    monkeypatch.setattr(sys, "argv", ["peers_page", str(run)])
    for _ in range(2):
        peers_page.main(page)
    text = page.read_text()
    assert text.count("| one | 1.00 x (1.5 s) |") == 1
    assert "old" not in text
    assert text.startswith("# Peers\n\n<!-- own -->\n")
    assert text.endswith("<!-- end of own -->\n\nWords about it.\n")
    assert (tmp_path / "peers.svg").exists()


def test_a_page_without_a_place_for_figures_is_refused():
    with pytest.raises(ValueError, match="polybench"):
        peers_page.renewed(PAGE, "polybench", "")


def test_the_page_of_the_peers_has_a_place_for_the_figures_of_both_runs():
    for mark in peers_page.DRAWINGS:
        assert "new" in peers_page.renewed(peers_page.PAGE.read_text(), mark, "new")


def test_the_same_figures_give_the_same_drawing(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        draw(json.loads(json.dumps(figures())), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
