"""The pages as people meet them: a real browser without a window on a real centre."""

import io
import itertools
import json
import random
import re
import time

import pytest
from fleets import NOW, accuracy, centre, report, varied

from bundles.fleet.access import credentials
from bundles.fleet.counting import weeks
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import LABELS, parse_report
from bundles.fleet.pages.rendering import label_words
from bundles.fleet.storage.database import open_database
from tests.chromium import BROWSER, Chromium

pytestmark = pytest.mark.skipif(not BROWSER, reason="chromium is not installed")
NAME, PASSWORD = "ada", "correct horse battery"
BUNDLE = "/bundle?bundle=default&version=4"
TAB, ENTER = ("Tab", 9), ("Enter", 13)


def fill(database):
    """Ten weeks of a mixed fleet; a better bundle on pilot in the last four."""
    for week in range(202639, 202649):
        draw, late = random.Random(week), week > 202644

        def one(number, draw=draw, late=late, week=week):
            more = {"week": weeks.week_text(week)}
            if late and draw.random() < 0.5:
                error = round(round(max(0, draw.gauss(0.25, 0.08)) / 0.02) * 0.02, 2)
                more |= {"channel": "pilot", "bundle_version": "5", "outcome": "kept",
                         "calibrated": accuracy(error)}  # fmt: skip
            return parse_report(varied(week * 1000 + number, **more))

        store_reports(database, [one(number) for number in range(500)])
        release_ready(database, weeks.monday(week), 10, 1)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A centre on SQLite with a fleet in it."""
    address = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'fleet.db'}"
    database = open_database(address)
    fill(database)
    credentials.set_password(database, NAME, PASSWORD)
    with centre(address) as made:
        yield made
    database.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def signed_in(browser, served):
    """The browser, with a session; signed in by the form, with the keyboard alone."""
    browser.open(served.url + "/", 1200, 900)
    if browser.value("location.pathname") == "/login":
        sign_in(browser, PASSWORD)
    return browser


def sign_in(browser, password):
    until = time.monotonic() + 100
    while browser.value("document.activeElement.id") != "name":  # the first field has the focus
        assert time.monotonic() < until
    browser.type(NAME)
    browser.press(*TAB)
    browser.type(password)
    browser.events = []
    browser.press(*ENTER)
    browser.await_page()


def brightness(png):
    from matplotlib.image import imread

    return float(imread(io.BytesIO(png), format="png")[..., :3].mean())


def only_from(browser, served):
    """Did the page ask for nothing elsewhere, and did nothing offend its policy?"""
    urls = [url for url in browser.requested() if not url.startswith("data:")]
    assert urls
    assert all(url.startswith(served.url + "/") for url in urls)
    assert browser.complaints() == []


def test_a_person_signs_in_by_keyboard_and_out_again(browser, served):
    browser.ask("Network.clearBrowserCookies")
    browser.open(served.url + "/", 1200, 900)
    assert browser.value("location.pathname") == "/login"
    sign_in(browser, "wrong horse battery")
    assert browser.value("document.querySelector('[role=alert]').textContent") == (
        "No such name and password."
    )
    sign_in(browser, PASSWORD)
    assert browser.value("document.querySelector('h1').textContent") == "Week 2026-W48"
    assert browser.value("document.cookie") == ""  # no script could take a session
    browser.events = []
    browser.value("document.querySelector('header button').click()")
    browser.await_page()
    assert browser.value("location.pathname") == "/login"
    browser.open(served.url + BUNDLE, 1200, 900)
    assert browser.value("location.pathname") == "/login"


@pytest.mark.parametrize("path", ["/", BUNDLE, BUNDLE + "&channel=pilot"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_asks_no_other_host_and_keeps_its_policy(signed_in, served, path, scheme):
    signed_in.open(served.url + path, 1200, 900, scheme)
    only_from(signed_in, served)


@pytest.mark.parametrize("path", ["/", BUNDLE, "/login", "/nowhere"])
@pytest.mark.parametrize("width", [320, 360, 768])
def test_no_page_is_wider_than_a_phone(signed_in, served, path, width):
    signed_in.open(served.url + path, width, 800)
    assert signed_in.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", ["/machines", "/api", "/help"])
def test_the_other_pages_fit_a_phone_and_keep_their_policy_too(signed_in, served, path):
    signed_in.open(served.url + path, 320, 800)
    assert signed_in.value("document.documentElement.scrollWidth") <= 320
    only_from(signed_in, served)


def test_the_weeks_that_are_looked_at_can_be_chosen_and_show_where_a_bundle_changed(
    signed_in, served
):
    signed_in.open(served.url + "/?weeks=12", 1200, 900)
    words = signed_in.value("document.querySelector('[aria-labelledby=trend]').innerText")
    assert "2026-W45: most pilot machines run default 5, not default 4." in words
    assert signed_in.value("document.querySelectorAll('[aria-labelledby=trend] .mark').length") == 1
    signed_in.events = []
    signed_in.value("[...document.querySelectorAll('a')].find(a => a.text == '4 weeks').click()")
    signed_in.await_page()
    assert signed_in.value("location.search") == "?weeks=4"
    rows = (
        "[...document.querySelectorAll('[aria-labelledby=trend] tbody th')].map(h => h.textContent)"
    )
    assert set(signed_in.value(rows)) == {f"2026-W{week}" for week in (45, 46, 47, 48)}
    assert signed_in.value("document.querySelectorAll('[aria-labelledby=trend] .mark').length") == 0


def test_a_bundle_shows_how_far_its_roll_out_is(signed_in, served):
    signed_in.open(served.url + "/bundle?bundle=default&version=5&weeks=12", 1200, 900)
    table = signed_in.value(
        "[...document.querySelectorAll('[aria-labelledby=rollout] tbody tr')].map("
        "r => [r.cells[0].textContent, parseInt(r.cells[1].textContent)])"
    )
    shares = dict(table)
    assert shares["2026-W44"] is None  # none, or too few
    assert shares["2026-W48"] > 50


def test_the_page_of_the_interface_says_what_its_description_says(served):
    """Rendered from the same document, without a script, and for anybody."""
    status, _, page = served.ask("GET", "/api")
    told = json.loads(served.ask("GET", "/v1/openapi.json")[2])
    assert status == 200
    words = page.decode()
    assert "<script" not in words
    for path in told["paths"]:
        assert f" {path}</code>" in words
    for name, schema in told["components"]["schemas"].items():
        assert f'<h3 id="{name}">' in words
        for field in schema["properties"]:
            assert f"<code>{field}</code>" in words


def test_a_phone_begins_with_the_newest_week_and_letters_can_be_read(signed_in, served):
    signed_in.open(served.url + "/", 360, 800)
    last = "[...document.querySelectorAll('.chart')].map(c => c.getBoundingClientRect().right)"
    assert all(right <= 360 for right in signed_in.value(last))
    sizes = signed_in.value("""
        [...document.querySelectorAll('svg text')].map(t =>
            parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a,
                                                                  t.getScreenCTM().b))
    """)
    assert min(sizes) >= 9


def test_it_is_dark_for_who_wants_it_dark(signed_in, served):
    found = {}
    for scheme in ("light", "dark"):
        signed_in.open(served.url + "/", 1200, 900, scheme)
        found[scheme] = brightness(signed_in.picture())
    assert found["light"] > 0.85
    assert found["dark"] < 0.25


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", BUNDLE, "/login"])
def test_words_stand_out_from_what_is_behind_them(signed_in, served, path, scheme):
    """The contrast that WCAG 2.2 asks for (1.4.3, AA): 4.5 for words."""
    signed_in.open(served.url + path, 1200, 900, scheme)
    weak = signed_in.value("""
        (() => {
            const parts = c => c.match(/[\\d.]+/g).map(Number);
            const light = c => { const [r, g, b] = parts(c).map(x => x / 255).map(
                x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const behind = e => { for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor;
                if ((parts(c)[3] ?? 1) > 0) return c; } return 'rgb(255, 255, 255)'; };
            return [...document.querySelectorAll('body :not(title)')].filter(e =>
                [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
                const svg = e instanceof SVGElement, s = getComputedStyle(e);
                const a = light(svg ? s.fill : s.color), b = light(behind(e));
                return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent];
            }).filter(([ratio]) => ratio < 4.5);
        })()
    """)
    assert weak == []


def test_everything_is_reached_by_keyboard_in_the_order_it_is_read(signed_in, served):
    signed_in.open(served.url + "/", 1200, 900)
    reached = []
    for _ in range(40):
        signed_in.press(*TAB)
        said = signed_in.value(
            "(e => e === document.body ? null : [e.tagName, getComputedStyle(e).outlineStyle, "
            "[...document.querySelectorAll('*')].indexOf(e)])(document.activeElement)"
        )
        if said is None:
            break
        reached.append(said)
    every = signed_in.value(
        "[...document.querySelectorAll('a, button, summary, [tabindex=\"0\"]')].filter("
        "e => e.checkVisibility()).length"
    )
    assert len(reached) == every > 8
    assert [place for *_, place in reached] == sorted(place for *_, place in reached)
    assert all(outline != "none" for _, outline, _ in reached)


def test_the_skip_link_goes_past_the_head(signed_in, served):
    signed_in.open(served.url + "/", 1200, 900)
    signed_in.press(*TAB)
    signed_in.press(*ENTER)
    signed_in.press(*TAB)
    assert signed_in.value("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("path", ["/", BUNDLE])
def test_a_reader_of_the_screen_finds_headings_in_order_and_named_drawings(signed_in, served, path):
    signed_in.open(served.url + path, 1200, 900)
    levels = signed_in.value(
        "[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    nodes = signed_in.ask("Accessibility.getFullAXTree")["nodes"]
    drawings = [n for n in nodes if n.get("role", {}).get("value") in ("image", "img")]
    assert drawings
    assert all(n["name"]["value"] for n in drawings)


def test_the_overview_shows_shares_and_a_verdict(signed_in, served):
    signed_in.open(served.url + "/", 1200, 900)
    words = signed_in.value("document.body.innerText")
    assert "default 5" in words
    assert "Promote" in words
    rows = signed_in.value(
        "[...document.querySelectorAll('section[aria-labelledby=bundles] tbody tr')].map("
        "r => [...r.cells].map(c => c.innerText))"
    )
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    by_channel = {}
    for row in rows:
        share = int(row[2].rstrip("%\N{NO-BREAK SPACE}"))
        by_channel[row[0]] = by_channel.get(row[0], 0) + share
    assert all(99 <= shares <= 101 for shares in by_channel.values())
    assert "under way" in signed_in.value("document.querySelector('#bundles').textContent")


def test_captions_count_the_machines_of_every_line(signed_in, served):
    signed_in.open(served.url + "/", 1200, 900)
    caption = "document.querySelector('section[aria-labelledby=trend] figcaption').textContent"
    assert re.search(r"newest week: \d+ pilot and \d+ stable machines", signed_in.value(caption))
    signed_in.open(served.url + BUNDLE, 1200, 900)
    caption = "document.querySelector('.many figcaption').textContent"
    assert re.search(r"newest week: \d+ machines", signed_in.value(caption))


@pytest.mark.parametrize("path", ["/", BUNDLE])
def test_the_axis_has_marks_beyond_all_that_is_drawn(signed_in, served, path):
    signed_in.open(served.url + path, 1200, 900)
    within = signed_in.value("""
        [...document.querySelectorAll('.chart')].map(c => {
            const lines = [...c.querySelectorAll('line.grid, line.zero')].map(l => l.y1.baseVal.value);
            const drawn = [...c.querySelectorAll('.whisker')].flatMap(
                l => [l.y1.baseVal.value, l.y2.baseVal.value]);
            return Math.min(...lines) <= Math.min(...drawn) && Math.max(...drawn) <= Math.max(...lines);
        })
    """)  # noqa: E501
    assert within
    assert all(within)


def test_labels_of_reports_are_said_in_words(signed_in, served):
    signed_in.open(served.url + BUNDLE, 1200, 900)
    words = signed_in.value("document.querySelector('[aria-labelledby=machines]').innerText")
    assert "under 1\N{NO-BREAK SPACE}% between two timings of a program" in words
    assert "48 or more" in words
    assert label_words("noise", "3-10%").startswith("3 to 10\N{NO-BREAK SPACE}% between")
    assert label_words("timings", "1-15") == "1 to 15"
    told = [label_words(name, x) for name, labels in LABELS.items() for x in labels]
    assert not [words for words in told if "-" in words or "+" in words]


def test_a_fleet_of_one_week_has_small_charts_with_letters_as_large_as_others(browser, tmp_path):
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    database = open_database(address)
    credentials.set_password(database, NAME, PASSWORD)
    store_reports(database, [parse_report(varied(n)) for n in range(300)])
    release_ready(database, NOW, 10, 1)
    database.close()
    with centre(address) as made:
        browser.ask("Network.clearBrowserCookies")
        browser.open(made.url + "/login", 1200, 900)
        sign_in(browser, PASSWORD)
        width, letters = browser.value(
            "(c => [c.getBoundingClientRect().width, c.getScreenCTM().a * parseFloat("
            "getComputedStyle(c.querySelector('text')).fontSize)])(document.querySelector('.chart'))"
        )
    assert width < 300
    assert 11 <= letters <= 14


def test_a_bundle_is_shown_by_architecture_calibrated_beside_alone(signed_in, served):
    signed_in.open(served.url + BUNDLE, 1200, 900)
    titles = signed_in.value("[...document.querySelectorAll('figcaption strong')].map("
                             "e => e.textContent)")  # fmt: skip
    assert titles[:5] == ["All architectures", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"]
    kinds = signed_in.value("[...new Set([...document.querySelectorAll('.many .chart g')].map("
                            "e => e.getAttribute('class')))].sort()")  # fmt: skip
    assert kinds == ["alone", "ours"]
    table = signed_in.value("document.querySelector('details table').rows.length")
    assert table == 1 + 2 * 10  # every box is in the table too


@pytest.mark.parametrize("bad", ["/bundle?bundle=<script>alert(1)</script>&version=4",
                                 "/bundle?bundle=x&version=4&channel='%20OR%201=1",
                                 "/bundle?bundle=x", "/%3Cscript%3E", "/static/../fleet.db",
                                 "/static/%2e%2e/routes.py"])  # fmt: skip
def test_an_address_that_is_no_page_says_so_and_repeats_nothing(signed_in, served, bad):
    signed_in.open(served.url + bad, 1200, 900)
    assert signed_in.value("document.querySelector('h1').textContent") == "404"
    assert signed_in.value("document.querySelectorAll('script').length") == 0
    assert signed_in.value("document.body.innerHTML.includes('alert')") is False


def test_a_bundle_nobody_reported_is_a_page_that_says_so(signed_in, served):
    signed_in.open(served.url + "/bundle?bundle=none&version=1", 1200, 900)
    assert "Nothing that may be shown was reported" in signed_in.value("document.body.innerText")
    only_from(signed_in, served)


def test_a_script_that_got_in_would_not_run(signed_in, served):
    signed_in.open(served.url + "/", 1200, 900)
    signed_in.value("""
        document.body.insertAdjacentHTML('beforeend', '<img src="http://127.0.0.1:9/x" onerror="x">');
        const s = document.createElement('script'); s.textContent = "document.title = 'owned'";
        document.body.append(s);
        document.body.insertAdjacentHTML('beforeend', '<p style="color:red">x</p>');
    """)  # noqa: E501
    assert signed_in.value("document.title") == "Fleet"
    refused = " ".join(str(c) for c in signed_in.complaints())
    assert "script-src" in refused or "default-src" in refused
    assert "style-src" in refused


def test_a_fleet_without_reports_has_a_page(browser, tmp_path):
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    database = open_database(address)
    credentials.set_password(database, NAME, PASSWORD)
    store_reports(database, [parse_report(report(n)) for n in range(9)])
    database.close()
    with centre(address) as made:
        browser.open(made.url + "/", 1200, 900)
        sign_in(browser, PASSWORD)
        words = browser.value("document.body.innerText")
    assert "Nothing was released yet" in words
    assert NOW.strftime("%Y") not in words
