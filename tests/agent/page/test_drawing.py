"""Markup, axes and charts: what goes in cannot break what comes out."""

import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calibration.calibration import Calibration, Point
from agent.page import charts, figures
from agent.page.axes import Axis, spread
from agent.page.markup import LONGEST, Markup, element, escaped
from agent.page.record import drawable
from tests.agent.page.bodies import body, point

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
POSITIVE = st.floats(1e-20, 1e20)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags = "", []

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def read(markup):
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


def is_control(c):
    return (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160


@given(ANY_TEXT)
def test_any_text_comes_out_of_a_browser_as_that_text_and_as_no_element(text):
    visible = "".join("\N{REPLACEMENT CHARACTER}" if is_control(c) else c for c in text)
    found = read(element("p", text, title=text))
    assert found.text == visible
    assert found.tags == [("p", {"title": visible})]


def test_a_long_text_is_cut():
    assert len(escaped("x" * 10_000)) == LONGEST


def test_markup_is_not_escaped_again():
    assert element("p", element("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert isinstance(element("p"), Markup)


def test_an_attribute_without_value_is_left_out():
    assert element("td", class_=None, hidden=True, r=3.0) == '<td hidden r="3"></td>'


@given(st.lists(POSITIVE, min_size=1, max_size=20), st.floats(1, 100))
def test_an_axis_holds_all_that_it_was_made_for(values, least):
    low, high = spread(values, least)
    axis = Axis(low, high, 0, 100)
    assert all(axis.holds(v) for v in values) or high / low < 1 + 1e-9
    assert high / low >= least * (1 - 1e-9)


@given(POSITIVE, st.floats(1.01, 1e12), st.integers(2, 10), st.booleans())
def test_ticks_are_few_and_on_the_axis(low, factor, most, log):
    axis = Axis(low, low * factor, 0, 100, log)
    ticks = axis.ticks(most)
    assert len(ticks) <= most
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= t <= axis.high + slack for t in ticks)


def test_ticks_are_round_numbers():
    assert Axis(0.05, 40, 0, 1).ticks() == [0.1, 0.3, 1, 3, 10, 30]
    assert Axis(0.0, 0.2, 0, 1, log=False).ticks(5) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_a_number_outside_lies_on_the_edge():
    axis = Axis(1, 10, 0, 100)
    assert (axis.at(0.1), axis.at(1000)) == (0, 100)
    assert axis.at(math.sqrt(10)) == pytest.approx(50)


def coordinates(svg):
    return [float(v) for v in re.findall(r'\s(?:[xy][12]?|c[xy])="([^"]+)"', svg)]


def well_formed(svg):
    tree = ElementTree.fromstring(svg)
    height = float(tree.get("viewBox").split()[3])
    assert all(-20 <= c <= max(charts.WIDTH, height) for c in coordinates(svg))
    assert "nan" not in svg
    return tree


@st.composite
def any_points(draw):
    measured = draw(POSITIVE)
    numbers = [draw(POSITIVE) for _ in range(6)]
    return Point("k<&", 's"', "speedup", measured, *numbers)


@given(st.lists(any_points(), min_size=1, max_size=30))
def test_every_prediction_is_drawn_inside_the_drawing(points):
    tree = well_formed(charts.scatter(points, figures.three_digits, "speed-up"))
    marks = list(tree.iter("circle"))
    assert len(marks) == 2 * len(points)


@given(st.lists(any_points(), min_size=1, max_size=30))
def test_what_is_said_to_lie_beyond_the_edge_does(points):
    low, high = charts.scatter_ends(points)
    assert all(low <= p.measured <= high for p in points)
    beyond = [v for p in points for v in (p.calibrated, p.alone) if not low <= v <= high]
    assert charts.outside(points) == len(beyond)


def points_of(found):
    return drawable(Calibration.from_json(found).points, "speedup")


def test_an_exact_prediction_lies_on_the_diagonal():
    exact = points_of(body(points=[point(calibrated=2.0), point(measured=8.0)]))
    tree = well_formed(charts.scatter(exact, figures.three_digits, "speed-up"))
    disc = next(e for e in tree.iter("circle") if e.get("class") == "calibrated")
    line = next(e for e in tree.iter("line") if e.get("class") == "identity")
    x1, y1, x2, y2 = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
    share = (float(disc.get("cx")) - x1) / (x2 - x1)
    assert float(disc.get("cy")) == pytest.approx(y1 + share * (y2 - y1), abs=0.2)


def test_a_mark_says_what_it_is():
    svg = charts.scatter(points_of(body()), figures.three_digits, "speed-up")
    title = ElementTree.fromstring(svg).find(".//title").text
    assert title.splitlines()[0] == "gemm: vectorize j"
    assert "measured 2 (1.96 to 2.04)" in title
    assert "predicted 2.6 (1.2 to 5.2); bundle alone 1" in title


@pytest.mark.parametrize("known", [{}, {"calibrated": 1.0}, {"alone": 1e19}, {"noise": 1.003}])
def test_errors_are_drawn_with_whatever_figures_there_are(known):
    well_formed(charts.error_bars([charts.Bar("speed-ups", **known)], figures.three_digits))


@pytest.mark.parametrize("worst", [0.0, 0.02, 5.0, 1e19])
def test_one_check_is_a_time_line_too(worst):
    dots = [charts.Dot(1e9, worst, "changed", "t", limit=0.06)]
    tree = well_formed(charts.timeline(dots, [], figures.day, figures.share))
    assert [e.get("class") for e in tree.iter("rect")] == ["changed"]


def test_a_time_line_begins_with_the_calibration_before_the_first_check():
    dots = [charts.Dot(at, 0.01, "holds", "t", limit=0.06) for at in (1e9, 1e9 + 500)]
    made = [1e9 + 250, 1e9 - 100, 1e9 - 9_000_000]
    tree = well_formed(charts.timeline(dots, made, figures.day, figures.share))
    lines = [float(e.get("x1")) for e in tree.iter("line") if e.get("class") == "made"]
    marks = [float(e.get("cx")) for e in tree.iter("circle")]
    assert len(lines) == 2  # of what went before that one, nothing is shown
    assert sorted([*lines, *marks]) == [lines[1], marks[0], lines[0], marks[1]]


def test_one_calibration_is_a_course_too():
    series = [charts.Series("calibrated", ((7.0, 1.5, "seven"),))]
    well_formed(charts.course(series, figures.three_digits))


@pytest.mark.parametrize(
    ("log_ratio", "words"),
    [
        (0.0, "+0%"),
        (0.0198, "+2%"),
        (-0.0512, "-5%"),
        (0.7, "+101%"),
        (-0.7, "-50%"),
        (1e9, "+3.49e+21%"),
    ],
)
def test_changes_are_said_with_their_direction(log_ratio, words):
    assert figures.signed_change(log_ratio) == words


@pytest.mark.parametrize(
    ("log_ratio", "words"),
    [(None, "-"), (0.0, "0%"), (0.004, "0.4%"), (-0.05, "5.1%"), (0.7, "101%"), (1e9, "3.49e+21%")],
)
def test_log_ratios_are_said_as_shares(log_ratio, words):
    assert figures.off_by(log_ratio) == words
