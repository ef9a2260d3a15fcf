"""Pages of a ranking, an explanation and a measurement: what they say, and how they look."""

import copy

import pytest

from agent.page.advice import render_explanation, render_ranking
from agent.page.measuring import render_measurement
from tests.agent.page.test_page import EVIL, said
from tests.agent.page.test_tuning_page import entry, poisoned
from tests.chromium import BROWSER, OVERLAPS, Chromium
from tests.conftest import SIZES, agent, valid

SCHEDULE = "interchange j k"
BARS = {"undisturbed": [1.9, 2.0, 2.1, 2.0], "disturbed": [0.4]}


@pytest.fixture(scope="module")
def answers(calibrated, tmp_path_factory):
    """Real answers of the commands, the pages that they wrote, and one of made-up timings."""
    place = tmp_path_factory.mktemp("pages")
    path = place / "gemm.c"
    path.write_text(
        "void gemm(int ni, int nj, int nk, float C[ni][nj], float A[ni][nk], float B[nk][nj]) {"
        "\nfor (int i = 0; i < ni; i++)\nfor (int j = 0; j < nj; j++)\n"
        "for (int k = 0; k < nk; k++)\nC[i][j] += A[i][k] * B[k][j];\n}\n"
    )
    where = (*SIZES, "--no-run", "--json", "--state-dir", calibrated)
    ranked = agent("rank", path, "--report", place / "rank.html", "--candidates", 20, *where)
    asked = ("--schedule", SCHEDULE, "--report", place / "explain.html")
    explained = agent("explain", path, *asked, *where)
    (place / "measure.html").write_text(render_measurement(measurement(), "clear.c"))
    return place, valid(ranked.json, "rank"), valid(explained.json, "explain")


def measurement(**more):
    timed = {**entry("tile i 32; vectorize j", 2.0), "rounds": 5, "round_speedups": BARS}
    failed = {**timed, "outcome": "crashed", "detail": "SIGSEGV", "seconds": None}
    none = dict.fromkeys(("speedup", "low", "high", "own_speedup", "own_low", "own_high"))
    nothing = {"undisturbed": [], "disturbed": []}
    return {
        "program": {"name": "clear", "lines": [3, 9], "bytes": 8, "assumes": []},
        "base": {"outcome": "ok", "seconds": 2e-3, "round_speedups": BARS},
        "own": None,
        "measurements": [
            timed,
            {**failed, **none, "schedule": "jam i 4", "round_speedups": nothing},
        ],
        "wins": "tile i 32; vectorize j",
        "own_wins": None,
        "noise_floor": None,
        "warnings": [],
        "notes": [],
        **more,
    }


def test_a_ranking_says_which_kernels_of_the_fixed_set_it_is_like(answers):
    place, ranked, _ = answers
    kernels = ranked["map"]["kernels"]
    assert "gemm" in {k["name"] for k in kernels[:2]}
    assert [k["distance"] for k in kernels] == sorted(k["distance"] for k in kernels)
    text = said((place / "rank.html").read_text())
    assert f"gemm {kernels[0]['purpose']} {kernels[0]['distance']:.1f}" in text
    assert "Is it like what was timed? Yes: " in text


def test_a_kernel_of_the_fixed_set_is_where_it_is(calibrated, tmp_path):
    from agent.kernels.fixed_set import kernels

    blur = next(k for k in kernels() if k.name == "blur")
    sizes = [word for n, v in blur.sizes.items() for word in ("--size", f"{n}={v}")]
    where = ("--no-run", "--json", "--report", tmp_path / "page.html", "--state-dir", calibrated)
    found = agent("rank", blur.path, *sizes, "--candidates", 2, *where).json["map"]
    nearest = found["kernels"][0]
    assert nearest["name"] == "blur"
    assert nearest["distance"] == pytest.approx(0, abs=1e-3)
    assert (found["x"], found["y"]) == pytest.approx((nearest["x"], nearest["y"]), abs=1e-3)


def test_without_a_page_there_is_no_map(calibrated, gemm):
    where = ("--no-run", "--json", "--candidates", 2, "--state-dir", calibrated)
    assert "map" not in valid(agent("rank", gemm, *SIZES, *where).json, "rank")


def test_an_explanation_draws_factors_that_end_at_the_prediction(answers):
    place, _, explained = answers
    text = said((place / "explain.html").read_text())
    factor = f"{explained['speedup']:.3g} times as fast"
    assert f"{SCHEDULE}: {factor} as the loops as the agent writes them" in text
    assert "Is it like what was timed?" in text


def test_an_explanation_over_the_function_begins_with_what_the_agent_makes_of_it(answers):
    own = {"seconds_before": 3e-3, "seconds_after": 1e-3, "speedup": 3.0, "low": 2.5, "high": 3.5}
    told = {**answers[2], "own": own, "own_speedup": 6.0, "own_low": 5.0, "own_high": 7.0}
    text = said(render_explanation(told, "gemm.c"))
    assert f"{SCHEDULE}: 6 times as fast as written" in text
    assert "as the agent writes it" in text


def test_a_measurement_shows_its_rounds(answers):
    page = (answers[0] / "measure.html").read_text()
    assert "the program as written against itself" in page
    assert page.count('class="bar disturbed"') >= 2
    assert "jam i 4" in said(page)


def test_measuring_writes_the_page_and_says_where(tmp_path, gemm):
    place = tmp_path / "page.html"
    where = ("--state-dir", tmp_path / "state", "--schedule", SCHEDULE, "--report", place)
    ran = agent("measure", gemm, *SIZES, *where, "--json", AGENT_BUDGET="2s")
    body = valid(ran.json, "measure")
    rounds = body["measurements"][0]["round_speedups"]
    assert len(rounds["undisturbed"] + rounds["disturbed"]) >= 5
    assert f"page written: {place}" in ran.err
    assert "Measurement of gemm" in place.read_text()


@pytest.mark.parametrize("command", ["rank", "measure", "explain"])
def test_a_place_that_cannot_be_written_is_told_first(command, tmp_path, gemm):
    more = () if command == "rank" else ("--schedule", "original")
    where = ("--state-dir", tmp_path / "state", "--report", tmp_path)
    ran = agent(command, gemm, *SIZES, *more, *where)
    assert ran.code == 2
    assert f"{tmp_path} is a directory" in ran.err
    assert "measuring" not in ran.err


@pytest.mark.parametrize("render", [render_ranking, render_explanation, render_measurement])
def test_words_from_outside_are_text(answers, render):
    known = {render_ranking: answers[1], render_explanation: answers[2]}
    body = copy.deepcopy(known.get(render, measurement()))
    names = {"cause", "what", "before", "after", "sharing", "outcome", "code"}
    page = render({**poisoned_but(body, names)}, EVIL)
    assert "<script" not in page
    assert "<img" not in page


def poisoned_but(value, names, name=""):
    """Every text made hostile but those that are words of a closed list."""
    if isinstance(value, dict):
        return {k: poisoned_but(v, names, k) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned_but(v, names, name) for v in value]
    return value if name in names else poisoned(value)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.skipif(not BROWSER, reason="chromium is not installed")
@pytest.mark.parametrize("name", ["rank", "explain", "measure"])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_lies_on_another_or_is_asked_for(browser, answers, name, width):
    url = (answers[0] / f"{name}.html").as_uri()
    browser.open(url, width, 900, "dark" if width == 360 else "light")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OVERLAPS) == []
    assert [asked for asked in browser.requested() if asked not in (url, "data:,")] == []
    assert browser.complaints() == []
