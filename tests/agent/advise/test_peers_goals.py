"""`benchmarks/peers_goals.py`: how near the agent comes to what the machine can do."""

from benchmarks.peers_goals import BOUNDS, row
from benchmarks.peers_peaks import Peaks, peaks

MOST = Peaks(gflops=100.0, read=20.0, triad=10.0)


def entry(seconds, course=()):
    return {"seconds": seconds, "found_s": 8.0, "course": course}


def found(seconds, course=()):
    return {"peers": {"gcc -O3": entry(2e-3), "agent tune": entry(seconds, course)}}


def test_what_a_function_does_in_a_second_is_told_as_a_share_of_what_the_machine_can():
    product, triad = BOUNDS[:2]
    assert product.share(1e-3, MOST) == 2 * 300 * 320 * 340 * 1e-9 / 1e-3 / 100
    assert triad.share(24e-3, MOST) == 0.8
    line = row(product, found(1e-3, [(4.0, 3.0)]), MOST)
    assert line == "| gemm_lda | 65.3 GFLOP/s | 100.0 GFLOP/s | 65% | 60% | 4.0 s |"


def test_what_was_not_found_and_what_is_never_ahead_are_told():
    triad = BOUNDS[1]
    assert row(triad, found(None), MOST) == "| triad | - | 10.0 GB/s | - | 85% | - |"
    assert row(triad, found(24e-3), MOST).endswith("| 8.0 GB/s | 10.0 GB/s | 80% | 85% | never |")


def test_the_higher_of_two_measurements_counts():
    assert MOST.most(Peaks(90.0, 30.0, 10.0)) == Peaks(100.0, 30.0, 10.0)


def test_the_probe_measures_on_this_machine():
    here = peaks(3_000_000)
    assert min(here.gflops, here.read, here.triad) > 0
