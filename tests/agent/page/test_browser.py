"""The page in a real browser: on a desk, on a phone, in the dark, on paper, and under attack."""

import io
import re

import pytest

from agent.page.document import render
from agent.page.gather import page_of
from tests.agent.page.bodies import DAY, NOW, body, check, record
from tests.agent.page.test_page import EVIL, poisoned
from tests.chromium import BROWSER, OVERLAPS, Chromium

pytestmark = pytest.mark.skipif(not BROWSER, reason="chromium is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(calibrated, tmp_path_factory):
    """The page of a real calibration."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_of(calibrated))
    return path.as_uri()


@pytest.fixture(scope="module")
def old_page(tmp_path_factory):
    """The page of a machine with a year behind it: many calibrations, a check a day."""
    verdicts = ["holds"] * 9 + ["unclear"] + ["holds"] * 4 + ["changed"]
    checks = [
        check(n, verdicts[n % 15], (0.01, 0.02, 0.2)[n % 3], NOW - n * DAY) for n in range(1, 120)
    ]
    other = {"name": "default", "version": "2", "digest": "e" * 64, "path": "/b"}
    path = tmp_path_factory.mktemp("page") / "old.html"
    path.write_text(render(record(body(), *[body(bundle=other)] * 30, checks=checks)))
    return path.as_uri()


@pytest.fixture(params=["page", "old_page"])
def any_page(request):
    return request.getfixturevalue(request.param)


def colours(png):
    """How many pixels have each of the most frequent colours, and the mean brightness."""
    import numpy as np
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(png), format="png")[..., :3]
    different = len(np.unique((pixels.reshape(-1, 3) * 255).astype(np.uint8), axis=0))
    return different, float(pixels.mean())


@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_asks_for_nothing_and_complains_of_nothing(browser, page, width, scheme):
    browser.open(page, width, 900, scheme)
    assert [url for url in browser.requested() if url not in (page, "data:,")] == []
    assert browser.complaints() == []


def test_it_is_drawn_and_dark_where_a_person_wants_it_dark(browser, page):
    browser.open(page, 1200, 900, "light")
    different, light = colours(browser.picture())
    assert different > 50
    assert light > 0.85
    browser.open(page, 1200, 900, "dark")
    different, dark = colours(browser.picture())
    assert different > 50
    assert dark < 0.25


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_sticks_out_at_the_side(browser, any_page, width):
    browser.open(any_page, width, 900)
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_no_letter_of_a_drawing_is_too_small_on_a_phone(browser, any_page):
    browser.open(any_page, 360, 800)
    sizes = browser.value("""
        [...document.querySelectorAll('figure > svg text')].map(t => {
            const m = t.getScreenCTM();
            return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b);
        })
    """)
    assert min(sizes) >= 9


def test_words_of_a_drawing_do_not_lie_on_each_other(browser, any_page):
    browser.open(any_page, 1200, 900)
    assert browser.value(OVERLAPS) == []


def test_it_is_printed_on_a_few_pages(browser, any_page):
    browser.open(any_page, 1200, 900)
    printed = browser.pdf()
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 6


def test_hostile_names_do_nothing_in_a_browser(browser, tmp_path):
    path = tmp_path / "evil.html"
    bad = poisoned(body())
    path.write_text(render(record(bad, body(), notes=[EVIL], checks=[check(1, EVIL)])))
    browser.open(path.as_uri(), 1200, 900)
    assert browser.value("document.title") == "Calibration of line-3"
    assert browser.value("document.querySelectorAll('script, img').length") == 0
    assert browser.value("document.body.innerText.includes('onerror=alert(1)')") is True
    assert [url for url in browser.requested() if not url.startswith(("file:", "data:,"))] == []
    assert browser.complaints() == []


def test_even_a_script_that_got_in_would_not_run(browser, tmp_path):
    path = tmp_path / "page.html"
    broken = render(record(body())).replace(
        "<main>", "<main><script>document.title='owned'</script><img src='http://127.0.0.1:9/x'>"
    )
    path.write_text(broken)
    browser.open(path.as_uri(), 1200, 900)
    assert browser.value("document.title") == "Calibration of line-3"
    refused = " ".join(str(c) for c in browser.complaints())
    assert "script-src" in refused
    assert "img-src" in refused


def test_a_reader_of_the_screen_finds_headings_in_order_and_named_drawings(browser, page):
    browser.open(page, 1200, 900)
    levels = browser.value("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)")
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    drawings = [n for n in nodes if n.get("role", {}).get("value") in ("image", "img")]
    assert len(drawings) >= 4
    assert all(n["name"]["value"] for n in drawings)
