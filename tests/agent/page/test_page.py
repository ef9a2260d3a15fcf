"""The page as text: what it says, what it never does, and what it makes of damaged records."""

import base64
import copy
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent.page
from agent.calibration.calibration import Calibration
from agent.page import facts
from agent.page.document import render
from agent.page.record import drawable
from agent.state import typed
from agent.state.state import StoredRecord
from agent.upkeep.checked import Check
from tests.agent.page.bodies import DAY, NOW, body, check, point, record
from tests.agent.page.test_drawing import read

EVIL = (
    "</style></script><script>document.title='owned'</script>"
    "<img src=http://evil.example/ onerror=alert(1)>\"'&\0\x1b"
)


def said(page):
    """The visible words, white space as one blank."""
    body_ = page[page.index("<body") :].replace("<", " <")
    return " ".join(read(body_).text.split())


def test_the_page_says_how_far_predictions_are_off():
    text = said(render(record(body())))
    assert "Calibration of line-3" in text
    assert "Speed-ups are off by a factor of 1.65 before and 1.49 after calibration" in text
    assert "Half of these differences are below 0.4%, nine in ten below 1%" in text


def test_the_noise_on_the_page_is_what_a_repeat_gives():
    text = said(render(record(body())))
    assert "Noise 3% is how far two timings of one program differ" in text
    assert "13 versions of programs timed once more at the end, in new processes" in text
    older = said(render(record(body(repeat_noise=None))))
    assert "Noise 0.4% is how far" in older
    assert "Nothing was timed a second time in a new process." in older


def test_it_says_so_where_timings_made_nothing_more_exact():
    found = body()
    found["accuracy"]["calibrated"]["log_error"] = 0.6
    text = said(render(record(found)))
    assert "this machine's timings did not make them more exact" in text


def test_warnings_come_with_what_to_do():
    text = said(render(record(body())))
    assert "One thing to look at" in text
    assert "The host took up to 11.0% of the CPU time away" in text
    assert "Calibrate again when the host is quieter" in text


def test_without_warnings_there_is_nothing_to_do():
    assert "Nothing to do" in said(render(record(body(warnings=[]))))


def test_a_changed_machine_is_the_first_thing_to_look_at():
    page = said(render(record(body(), checks=[check(1, "changed", 0.2, NOW - 60)])))
    assert "2 things to look at The last check found that this machine has changed" in page


def test_a_check_of_an_earlier_calibration_asks_for_nothing():
    old = check(1, "changed", 0.2, NOW - 5 * DAY)
    page = said(render(record(body(warnings=[]), checks=[old])))
    assert "Nothing to do" in page
    assert "Since this calibration: 0 of the 1 checks on record" in page


def test_a_check_says_by_which_facts_a_machine_has_changed():
    why = [{"code": "kernel", "message": "the system's kernel is 6.18 now"}]
    page = said(render(record(body(), checks=[check(1, "changed", 0.0, NOW - 60, reasons=why)])))
    assert "no longer held (the system's kernel is 6.18 now)" in page


def test_a_check_tells_longer_times_from_smaller_speed_ups():
    timed = [
        {"kernel": "gemm", "schedule": "original", "log_ratio": 0.2, "limit": 0.15},
        {"kernel": "gemm", "schedule": "vectorize j", "log_ratio": -0.1, "limit": 0.15},
    ]
    found = check(1, "changed", 0.2, NOW - 60, sentinels=timed)
    page = said(render(record(body(), checks=[found])))
    assert "gemm time as written +22% -14% / +16%" in page
    assert "gemm speed-up: vectorize j -9.5% -14% / +16%" in page


def test_a_machine_that_was_never_calibrated_has_a_page():
    text = said(render(record()))
    assert "This machine is not calibrated." in text
    assert "Run agent calibrate" in text


def test_a_calibration_of_an_older_agent_says_what_it_lacks():
    old = body()
    del old["points"]
    text = said(render(record(old)))
    assert "made by an older agent, which did not keep single predictions" in text
    assert "off by a factor of 1.65 before" in text


def test_every_point_is_in_the_table_with_the_least_exact_first():
    page = render(
        record(body(points=[point("exact", calibrated=2.0), point("worst", calibrated=40.0)]))
    )
    tables = page[page.index("<details>") :]
    assert tables.index(">worst<") < tables.index(">exact<")


def test_what_changed_since_the_calibration_before_is_told():
    before = body(toolchain=body()["toolchain"] | {"version": "cc 11.0"})
    text = said(render(record(body(), before)))
    assert "this has changed: Compiler." in text
    assert "Compiler cc 11.0 cc 12.2" in text


def test_the_same_machine_and_compiler_are_no_change():
    same = Calibration.from_json(body())
    assert facts.fact_changes(same, same) == []
    assert "machine, compiler, bundle and agent are the same" in said(
        render(record(body(), body()))
    )


def test_a_calibration_with_the_prebuilt_set_says_so():
    found = body(toolchain={"kind": "prebuilt", "version": "clang 21", "flags": [], "openmp": True})
    assert "there was no compiler here" in said(render(record(found)))


def test_what_could_not_be_timed_is_listed():
    failed = {"kernel": "dot", "schedule": "s", "outcome": "crashed", "detail": "signal 11"}
    found = body(timings={"planned": 3, "usable": 2, "failed": [failed]})
    assert (
        "1 gave no usable result: kernel schedule outcome detail dot s crashed signal 11"
        in said(render(record(found)))
    )


def test_the_same_record_gives_the_same_page():
    assert render(record(body(), body())) == render(record(body(), body()))


def test_the_page_has_no_script_and_names_nothing_to_fetch():
    page = render(record(body(), body(), checks=[check(1)]))
    tags = read(page).tags
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & {t for t, _ in tags}
    linked = [a[k] for _, a in tags for k in ("href", "src", "action", "xlink:href") if k in a]
    assert linked == ["data:,"]
    assert not re.search(r"url\(|@import", page)


def test_the_policy_forbids_all_but_this_style_sheet():
    page = render(record(body()))
    policy = next(a["content"] for t, a in read(page).tags if "http-equiv" in a)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not [a for _, a in read(page).tags if "style" in a or any(k.startswith("on") for k in a)]


def test_every_drawing_has_a_name_and_every_column_a_scope():
    tags = read(render(record(body(), body(), checks=[check(1)]))).tags
    assert all(a.get("aria-label") or a.get("aria-hidden") for t, a in tags if t == "svg")
    assert all(a.get("scope") in ("col", "row") for t, a in tags if t == "th")


def poisoned(value):
    """The same record with every text replaced."""
    if isinstance(value, str):
        return value if value in ("speedup", "seconds", "ridge", "bundle", "steal") else EVIL
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    return [poisoned(item) for item in value] if isinstance(value, list) else value


def test_hostile_names_are_shown_and_do_nothing():
    bad = poisoned(body())
    bad["elapsed"] = {EVIL: 1.0}
    bad["machine"]["caches"] = {EVIL: 1024}
    page = render(record(bad, body(), notes=[EVIL], checks=[check(1, EVIL)]))
    tags = read(page).tags
    assert "script" not in {t for t, _ in tags}
    assert "img" not in {t for t, _ in tags}
    assert "document.title='owned'" in said(page)
    assert "\0" not in page
    assert "\x1b" not in page


JUNK = st.sampled_from([None, "x", -1, 0, 10**400, 1e308, [], [1, "a", None], {}, {"a": 1}, True])


def paths(value, at=()):
    yield at
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inside:
        yield from paths(item, (*at, key))


PATHS = [p for p in paths(body()) if p]


@given(st.lists(st.tuples(st.sampled_from(PATHS), JUNK), min_size=1, max_size=4))
def test_a_damaged_calibration_still_makes_a_page(damages):
    found = copy.deepcopy(body())
    for path, junk in damages:
        place = found
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
        except (KeyError, TypeError, IndexError):
            continue  # damaged above already
    page = render(record(found, body(), checks=[check(1)]))
    assert page.endswith("</html>\n")
    assert "nan" not in page.lower().replace("unanan", "")


@given(st.dictionaries(st.text(max_size=5), JUNK))
def test_a_damaged_check_still_makes_a_page(junk):
    good = typed.to_json(check(1).body)
    odd = typed.from_json(Check, {**good, **junk, "worst": junk})
    render(record(body(), checks=[StoredRecord(1, NOW - 60, odd)]))


def test_points_that_cannot_be_drawn_are_left_out():
    odd = [point(measured=0.0), point(alone=None), point(kind="other"), 7, point("good")]
    found = Calibration.from_json({"points": odd})
    assert [p.kernel for p in drawable(found.points, "speedup")] == ["good"]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast ratio of WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


STYLE = (Path(agent.page.__file__).parent / "style.css").read_text()
THEMES = [
    dict(re.findall(r"--(\w+): (#\w{6})", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
]


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark", "print"])
def test_text_and_marks_stand_out_from_the_paper(theme):
    for ink in ("ink", "quiet", "calibrated"):  # text: AA asks for 4.5
        assert contrast(theme[ink], theme["paper"]) >= 4.5, ink
    for mark in ("calibrated", "alone", "noise", "changed"):  # drawings: AA asks for 3
        assert min(contrast(theme[mark], theme[on]) for on in ("paper", "band")) >= 3, mark
