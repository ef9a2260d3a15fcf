"""The report: closed, rounded, short, and the same for all who have the same to tell."""

import json
import re

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.bundle.installed import BundleReference
from agent.calibration.calibration import Calibration, ToolchainFacts
from agent.report import payload
from agent.report.payload import Occasion, RefusedErrors, dedupe, iso_week, of_refusal, plain_name
from agent.state import typed
from tests.conftest import SCHEMAS

SCHEMA = json.loads((SCHEMAS / "report-payload.json").read_text())
WHEN = Occasion("stable", "2026-W48", b"s" * 32)
NUMBERS = st.none() | st.floats() | st.integers(-(10**6), 10**6)


def floor_of(label_median):
    others = dict.fromkeys(("label_p90", "round_median", "round_p90", "called_different"), 0.1)
    return {"label_median": label_median, **others, "kernels": 3}


def repeat_of(median):
    return {"median": median, "p90": 0.1, "held": 0.6, "versions": 9}


def of_calibration(body, when):
    return payload.of_calibration(Calibration.from_json(body), when)


def figures():
    names = ("log_error", "seconds_log_error", "spearman", "top_share")
    return st.fixed_dictionaries(dict.fromkeys(names, NUMBERS))


def bodies():
    """Stored calibrations, with what a report reads of them being anything."""
    text = st.text(max_size=200)
    return st.fixed_dictionaries(
        {
            "bundle": st.fixed_dictionaries({"name": text, "version": text, "digest": text}),
            "machine": st.fixed_dictionaries(
                {"level": st.sampled_from(payload.ARCHITECTURES) | text}
            ),
            "toolchain": st.fixed_dictionaries({"version": st.none() | text}),
            "timings": st.fixed_dictionaries({"usable": st.integers(0, 10**6)}),
            "noise_floor": st.none() | NUMBERS.map(floor_of),
            "repeat_noise": st.none() | NUMBERS.map(repeat_of),
            "head": st.just({"kinds": {"speedup": "ridge"}}),
            "accuracy": st.fixed_dictionaries({"calibrated": figures(), "bundle_alone": figures()}),
        }
    )


def read(report) -> dict:
    return json.loads(report.to_bytes())


def is_multiple(value, step):
    return value is None or abs(value / step - round(value / step)) < 1e-9


@settings(deadline=None)  # a busy machine is no failure
@given(body=bodies())
def test_whatever_a_calibration_holds_the_report_follows_the_schema_and_is_short(body):
    for report in (
        of_calibration(body, WHEN),
        of_refusal(
            typed.from_json(BundleReference, body["bundle"]),
            RefusedErrors(0.3, None),
            Calibration.from_json(body),
            WHEN,
        ),
    ):
        content = report.to_bytes()
        jsonschema.validate(json.loads(content), SCHEMA)
        assert len(content) < payload.MAX_BYTES / 2
        assert content.isascii()
        assert b" " not in content


@given(body=bodies())
def test_figures_are_rounded_whatever_they_were(body):
    found = read(of_calibration(body, WHEN))
    for way in filter(None, (found["calibrated"], found["bundle_alone"])):
        assert is_multiple(way["speedup_error"], 0.02)
        assert is_multiple(way["seconds_error"], 0.02)
        assert is_multiple(way["rank"], 0.05)
        assert is_multiple(way["top_pick"], 0.05)
    assert b"-0.0" not in of_calibration(body, WHEN).to_bytes()


def test_a_real_calibration_is_told_in_bytes_that_are_canonical(calibration):
    content = of_calibration(calibration, WHEN).to_bytes()
    body = json.loads(content)
    jsonschema.validate(body, SCHEMA)
    assert content == json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    assert body["calibrated"]["speedup_error"] == pytest.approx(
        calibration["accuracy"]["calibrated"]["log_error"], abs=0.0101
    )


def test_the_schema_admits_nothing_more_and_nothing_less():
    def closed(schema):
        assert schema["additionalProperties"] is False
        later = {"first", "label"} & set(schema["properties"])  # of schema 2
        assert set(schema["required"]) == set(schema["properties"]) - later
        for inner in schema["properties"].values():
            if "properties" in inner:
                closed(inner)

    closed(SCHEMA)
    names = {name for name in SCHEMA["properties"] if name != "schema"}
    assert names == set(payload.Payload.__dataclass_fields__)


def test_every_field_of_the_schema_is_bounded():
    def bounded(schema):
        kinds = schema.get("type", ())
        if "string" in kinds:
            longest = re.sub(r"\[[^]]*\]", "x", schema["pattern"])
            assert not re.search(r"[*+]|,\}", longest)
        elif kinds == "boolean":
            pass
        elif "number" in kinds:
            assert {"minimum", "maximum"} <= set(schema)
        else:
            assert "enum" in schema or "const" in schema or "properties" in schema

    for field in SCHEMA["properties"].values():
        bounded(field)
        for inner in field.get("properties", {}).values():
            bounded(inner)


@pytest.mark.parametrize(
    ("usable", "bucket"),
    [(0, "0"), (1, "1-15"), (15, "1-15"), (16, "16-31"), (47, "32-47"), (48, "48+"), (90, "48+")],
)
def test_timings_are_counted_in_buckets(calibration, usable, bucket):
    body = {**calibration, "timings": {"usable": usable}}
    assert read(of_calibration(body, WHEN))["timings"] == bucket


@pytest.mark.parametrize(
    ("floor", "bucket"),
    [
        (floor_of(0.0), "under-1%"),
        (floor_of(0.011), "1-3%"),
        (floor_of(0.05), "3-10%"),
        (floor_of(0.2), "over-10%"),
        (floor_of(None), "unknown"),
        (None, "unknown"),
    ],
)
def test_noise_is_told_in_buckets(calibration, floor, bucket):
    by_an_older_agent = {**calibration, "noise_floor": floor, "repeat_noise": None}
    assert payload.noise_bucket(Calibration.from_json(by_an_older_agent).noise) == bucket


def test_the_noise_told_is_what_a_repeat_gives(calibration):
    noise = {"noise_floor": floor_of(0.001), "repeat_noise": repeat_of(0.05)}
    body = {**calibration, **noise}
    assert read(of_calibration(body, WHEN))["noise"] == "3-10%"


@pytest.mark.parametrize(
    ("kind", "floor", "usable", "outcome"),
    [
        ("ridge", 0.01, 30, "kept"),
        ("boosting", 0.01, 30, "kept"),
        ("bundle", 0.01, 30, "fell-back"),
        ("ridge", 0.2, 30, "too-noisy"),
        ("bundle", 0.2, 30, "too-noisy"),
        ("bundle", 0.01, 0, "too-noisy"),
    ],
)
def test_the_outcome_says_what_came_of_it(calibration, kind, floor, usable, outcome):
    body = {
        **calibration,
        "head": {"kinds": {"speedup": kind, "seconds": "ridge"}},
        "repeat_noise": repeat_of(floor),
        "timings": {"usable": usable},
    }
    assert payload.outcome_of(Calibration.from_json(body)) == outcome


@pytest.mark.parametrize(
    ("used", "family"),
    [
        ({"version": "gcc (Debian 12.2.0-14+deb12u1) 12.2.0"}, "gcc"),
        ({"version": "cc (GCC) 15.1.1 20250425"}, "gcc"),
        ({"version": "x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0"}, "gcc"),
        ({"version": "aarch64-linux-gnu-gcc (Ubuntu) 13.3.0"}, "gcc"),
        ({"version": "Debian clang version 14.0.6"}, "clang"),
        ({"version": "clang version 20.1.0 (https://github.com/ziglang)"}, "clang"),
        ({"version": "icc (ICC) 2021.10.0 20230609"}, "other"),
        ({"version": "tcc version 0.9.27 (x86_64 Linux)"}, "other"),
        ({"version": "the-secret-compiler-of-plant-7 (v1)"}, "other"),
        ({"version": "clang version 20", "kind": "prebuilt"}, "prebuilt"),
        ({"version": "gcc (Debian) 12", "kind": "compiler"}, "gcc"),
        ({}, "other"),
    ],
)
def test_a_compiler_is_told_by_its_family_only(used, family):
    assert payload.compiler_family(typed.from_json(ToolchainFacts, used)) == family


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("x86-64-v3", "x86-64-v3"),
        ("arm64", "aarch64"),
        ("aarch64", "aarch64"),
        ("riscv64", "other"),
    ],
)
def test_an_architecture_is_one_of_a_closed_list(level, told):
    assert payload.known_architecture(level) == told


def test_names_of_bundles_come_in_plain_letters():
    assert plain_name("default", 64) == "default"
    assert plain_name('<script>"; DROP\n', 64) == "-script----DROP-"
    assert plain_name("", 64) == "-"
    assert len(plain_name("x" * 500, 64)) == 64


@pytest.mark.parametrize(
    ("day", "week"),
    [
        (1_795_391_999, "2026-W47"),
        (1_795_392_000, "2026-W48"),  # 2026-11-23, a Monday
        (1_767_225_600, "2026-W01"),  # 2026-01-01, a Thursday
        (1_609_459_200, "2020-W53"),  # 2021-01-01 belongs to the last week of 2020
    ],
)
def test_weeks_are_those_of_iso_8601(day, week):
    assert iso_week(day) == week


def test_a_machine_counts_once_for_a_bundle_and_week_and_cannot_be_followed_to_the_next():
    keys = {
        dedupe(secret, digest, week)
        for secret in (b"1" * 32, b"2" * 32)
        for digest in ("a" * 64, "b" * 64)
        for week in ("2026-W48", "2026-W49")
    }
    assert len(keys) == 8
    assert dedupe(b"1" * 32, "a" * 64, "2026-W48") in keys
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)


def test_two_machines_with_the_same_to_tell_differ_in_nothing_but_the_key(calibration):
    one, other = (
        read(of_calibration(calibration, Occasion("stable", "2026-W48", secret)))
        for secret in (b"1" * 32, b"2" * 32)
    )
    assert one.pop("dedupe") != other.pop("dedupe")
    assert one == other
