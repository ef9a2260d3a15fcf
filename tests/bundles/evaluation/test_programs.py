"""``bundles evaluate --programs``: from a list of C functions to a report, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from agent.errors import Exit
from bundles import cli
from bundles.evaluation.programs import evaluate as evaluating
from bundles.evaluation.programs.report import RealReport
from bundles.evaluation.programs.scoring import RealGuess, judge_guess
from tests.conftest import SCHEMAS
from tests.fake_runner import FakeRunner, as_the_bundle_says, calibrate_simulated

KERNELS = Path(evaluating.__file__).parents[3] / "agent/kernels"
BUNDLE = Path(evaluating.__file__).parents[2] / "default"
GEMM = {"file": str(KERNELS / "gemm.c"), "sizes": {"ni": 64, "nj": 64, "nk": 64}}
ENTRIES = [
    {"name": "small", **GEMM},
    {"name": "large", **GEMM, "sizes": {"ni": 300, "nj": 300, "nk": 300}},
    {"name": "unread", **GEMM, "sizes": {"ni": 64}},
]
FEW = ("--looked-at", "12", "--timed", "6", "--machine", "test-vm")


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    """Runs the command on a simulated machine; answers with code, stdout, stderr."""
    runner = FakeRunner(as_the_bundle_says(BUNDLE, times=2.0), noise=0.01)
    monkeypatch.setattr(evaluating, "runner_for_programs", lambda *_, **__: runner)
    monkeypatch.setattr(evaluating, "runner_for_anchors", lambda *_: runner)

    def run(*words: object, entries: object = ENTRIES):
        path = tmp_path / "list.json"
        if entries is not None:
            whole = {"schema": 1, "name": "two gemms", "programs": entries}
            path.write_text(json.dumps(whole if isinstance(entries, list) else entries))
            words = ("--programs", path, *FEW, *words)
        state, out = tmp_path / "state", tmp_path / "out"
        told = ["bundles", "evaluate", "--out", out, "--state-dir", state, *words]
        monkeypatch.setattr(sys, "argv", list(map(str, told)))
        code = cli.main()
        return (code, *capsys.readouterr())

    run.runner, run.out = runner, tmp_path / "out"
    return run


def test_every_way_to_predict_is_scored_and_the_report_is_written(asked):
    code, out, err = asked("--json")
    assert code == Exit.OK, err
    found = json.loads(out)
    assert found == json.loads((asked.out / "programs.json").read_text())
    assert RealReport.from_json(found).to_json() == found
    assert set(found["ways"]) == {"bundle", "bundle_anchored", "rules", "random", "again"}
    assert found["target"]["machine"] == "test-vm"
    assert (found["versions"], found["anchored"]) == (12, 2)
    assert found["shared"] == 0
    (left,) = found["left_out"]
    assert left["name"] == "unread"
    assert "nj" in left["why"]
    for way in found["ways"].values():
        low, high = way["interval"]["log_error"]
        assert low <= way["mean"]["log_error"] <= high
        assert way["worst"]["log_error"] in ("small", "large")
    means = {name: way["mean"] for name, way in found["ways"].items()}
    assert means["bundle"]["spearman"] > max(0.5, means["rules"]["spearman"])
    assert means["bundle_anchored"]["seconds_log_error"] < 0.1
    assert means["again"]["log_error"] < 0.05
    text = (asked.out / "programs.md").read_text()
    assert all(way["title"] in text for way in found["ways"].values())
    assert (asked.out / "programs.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_that_was_cut_off_goes_on_and_a_journal_is_scored_without_timing(asked):
    assert asked()[0] == Exit.OK
    journal = asked.out / "timings.jsonl"
    whole, times = journal.read_bytes(), len(asked.runner.asked)
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:100])
    code, _, err = asked("--json")
    assert code == Exit.OK
    assert "1 of 3 programs are timed already" in err
    assert len(asked.runner.asked) == times + 2
    code, out, _ = asked("--from", journal, "--again", journal, "--json", entries=None)
    assert code == Exit.OK
    assert len(asked.runner.asked) == times + 2
    assert json.loads(out)["versions"] == 12
    assert json.loads(out)["ways"]["repeated"]["mean"]["log_error"] == 0


def test_a_calibration_in_force_predicts_too_and_its_timings_are_in_the_journal(asked):
    calibrate_simulated(asked.out.parent / "state", BUNDLE, machine=asked.runner)
    code, out, err = asked("--json", entries=ENTRIES[:1])
    assert code == Exit.OK, err
    found = json.loads(out)
    assert {"calibrated", "calibrated_anchored"} < set(found["ways"])
    assert {d["way"] for d in found["differences"]} == {"bundle_anchored", "calibrated_anchored"}
    shutil.rmtree(asked.out.parent / "state")
    code, out, _ = asked("--from", asked.out / "timings.jsonl", "--json", entries=None)
    assert json.loads(out)["ways"] == found["ways"]


def test_another_experiment_does_not_go_on_with_a_journal(asked):
    asked()
    code, _, err = asked("--seed", "1")
    assert code == Exit.USAGE
    assert "another list or other settings" in err


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "list of 1 to"),
        ({"schema": 2, "programs": ENTRIES}, "schema is not 1"),
        ([{"file": "none.c"}], "none.c of program 1 is not there"),
        ([{**GEMM, "size": 3}], "'size', which is none of name, file, function"),
        ([{**GEMM, "sizes": {"ni": 0}}], "size ni of program 1 is not a whole number"),
        ([{**GEMM, "cflags": "-O2"}], "cflags of program 1 is not a list"),
        ([GEMM, GEMM], "two programs are called 'gemm'"),
        ([{"function": "f"}], "file is missing"),
        ([7], "program 1 is not an object"),
    ],
)
def test_a_list_that_cannot_be_used_says_what_is_wrong(asked, entries, words):
    code, _, err = asked(entries=entries)
    assert code == Exit.USAGE
    assert words in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--from", "{}/none.jsonl"), "no journal of real programs"),
        (("--from", "{}/list.json"), "no journal of real programs"),
        (("--from", "x", "--leave", "target"), "evaluate no label files"),
    ],
)
def test_a_journal_or_options_that_do_not_fit_are_refused(asked, tmp_path, words, told):
    (tmp_path / "list.json").write_text("{}\n")
    code, _, err = asked(*(w.format(tmp_path) for w in words), entries=None)
    assert code == Exit.USAGE
    assert told in " ".join(err.split())


def test_the_schema_of_lists_says_what_the_command_takes():
    schema = json.loads((SCHEMAS / "evaluate-programs.json").read_text())
    jsonschema.validate({"schema": 1, "name": "x", "programs": ENTRIES}, schema)
    for wrong in ([], [{"sizes": {}}], [{**GEMM, "more": 1}], [{**GEMM, "sizes": {"n": 0}}]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema": 1, "programs": wrong}, schema)


def test_the_figures_of_one_program_are_those_counted_by_hand():
    truth = np.log([2.0, 1.0, 0.5, 4.0])
    guess = RealGuess(np.log([4.0, 1.05, 0.5, 2.0]), np.full(4, 0.1), 1.0)
    found = judge_guess(truth, 1.5, guess)
    assert found.log_error == pytest.approx((2 * np.log(2) + np.log(1.05)) / 4)
    assert found.top_share == pytest.approx(0.5)
    assert found.first_share == 1.0
    assert found.pairs == pytest.approx(8 / 9)  # the second is as fast as written: no pair
    assert found.spearman == pytest.approx(8.5 / np.sqrt(95))  # the program as written among them
    assert (found.coverage, found.width) == (0.5, pytest.approx(0.1 * 1.28155, rel=1e-4))
    assert found.seconds_log_error == 0.5


def test_versions_predicted_alike_are_taken_in_every_order():
    found = judge_guess(np.log([2.0, 4.0]), 0.0, RealGuess(np.zeros(2)))
    assert found.top_share == pytest.approx((1 + 2 + 4) / 3 / 4, abs=0.06)
    assert found.first_share == 1.0
    assert found.pairs == 0.5
