"""The page of a search: what it says, and how it looks in a browser."""

import copy

import pytest

from agent.page.tuning import render_tuning
from tests.agent.page.test_page import EVIL, said
from tests.chromium import BROWSER, Chromium

NEST = "for (int i = 0; i < n; i++)\n\tfor (int j = 0; j < n; j++)\n\t\ta[i][j] = 0;"
TIMED = {"outcome": "ok", "detail": "", "seconds": 1e-3, "sharing": "undisturbed"}


def entry(schedule, speedup, own=2.0):
    near = {"speedup": speedup, "low": speedup * 0.9, "high": speedup * 1.1}
    return {**TIMED, **near, **{f"own_{k}": v * own for k, v in near.items()}, "schedule": schedule}


def tried(schedule, speedup, expected, predicted):
    near = {"low": speedup * 0.9, "high": speedup * 1.1} if speedup else {"low": None, "high": None}
    interval = {"expected_low": expected / 2, "expected_high": expected * 2}
    told = {"schedule": schedule, "outcome": "ok" if speedup else "crashed", "speedup": speedup}
    return {**told, **near, "expected": expected, **interval, "predicted": predicted}


def answer(**more):
    best = entry("tile i 32; vectorize j", 4.0)
    function = {"seconds_before": 4e-3, "seconds_after": 2e-3}
    return {
        "program": {"name": "clear"},
        "sizes": {"n": 512},
        "machine": {"level": "x86-64-v4", "threads": 2},
        "toolchain": {"version": "cc 12.2.0", "flags": ["-O3", "-fopenmp"]},
        "loops": {"written": NEST, "winner": f"static void kernel(void)\n{{\n{NEST}\n}}"},
        "base": {"seconds": 2e-3},
        "own": {**function, "speedup": 2.0, "low": 1.9, "high": 2.1},
        "winner": best,
        "function": {**function, "speedup": 7.5, "low": 7.0, "high": 8.0},
        "tied": [best["schedule"]],
        "finalists": [best, entry("vectorize j", 2.0)],
        "tried": [
            tried(best["schedule"], 4.0, 3.0, 2.0),
            tried("vectorize j", 2.0, 2.5, 4.0),
            tried("jam i 4", None, 1.0, 1.0),
        ],
        "curve": [
            {"at_s": 4.0, "tried": 2, "speedup": 2.0, "own_speedup": 4.0},
            {"at_s": 9.0, "tried": 3, "speedup": 4.0, "own_speedup": 8.0},
        ],
        "looked_at": 9000,
        "stopped": "budget",
        "confirmed": True,
        "elapsed_s": 10.0,
        "out": None,
        "check": None,
        "notes": ["nothing"],
        **more,
    }


def test_the_page_says_what_was_found_over_the_persons_function():
    text = said(render_tuning(answer(), "clear.c"))
    assert "clear.c: n = 512; x86-64-v4, 2 threads; cc 12.2.0; -O3 -fopenmp" in text
    assert "tile i 32; vectorize j" in text
    assert "8.00" in text
    assert "for (int i = 0; i < n; i++)" in text


@pytest.mark.parametrize(
    "more",
    [
        {"own": None, "winner": None, "function": None, "finalists": [], "tied": []},
        {"curve": [], "tried": [], "base": {"seconds": None}},
        {"loops": {"written": NEST, "winner": None}, "sizes": {}},
    ],
    ids=["nothing-found", "interrupted", "as-written"],
)
def test_what_is_not_known_is_left_out(more):
    assert "Tuning of clear" in said(render_tuning(answer(**more), "clear.c"))


def poisoned(value):
    if isinstance(value, dict):
        return {k: poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return EVIL if isinstance(value, str) else value


def test_names_and_code_from_outside_are_text():
    bad = poisoned(answer()) | {"stopped": "budget"}
    page = render_tuning(copy.deepcopy(bad), EVIL)
    assert "<script" not in page
    assert "<img" not in page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.skipif(not BROWSER, reason="chromium is not installed")
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_and_nothing_is_asked_for(browser, tmp_path, width):
    path = tmp_path / "page.html"
    path.write_text(render_tuning(answer(), "clear.c"))
    browser.open(path.as_uri(), width, 900)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert [url for url in browser.requested() if url not in (path.as_uri(), "data:,")] == []
    assert browser.complaints() == []
