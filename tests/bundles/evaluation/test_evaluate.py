"""``bundles evaluate`` from label files to a report, and what it refuses."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from agent.errors import Exit
from agent.loopnest.features.vector import FEATURES_VERSION
from bundles import cli
from bundles.evaluation.arms import BY_NAME
from bundles.evaluation.reference import left_out
from bundles.evaluation.report import METRICS
from bundles.labels.labels import META, is_test, load_labels
from tests.bundles.simulated_labels import timed_items, write_simulated

FAST = ("--arms", "median,bundle,bundle_random,bundle_fixed")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    found = timed_items(36, 5, fixed=True)
    return write_simulated(found, tmp_path_factory.mktemp("labels"), machines=2)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def few_trees(monkeypatch) -> None:
    """What is not about how good the arms are does not pay for it."""
    monkeypatch.setattr("agent.model.boosting.TREES", 2)
    monkeypatch.setattr("bundles.evaluation.scratch.STEPS", 20)


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """One test looks at the plot; to draw it takes as long as the rest."""
    monkeypatch.setattr("bundles.evaluation.evaluate.draw_learning_curves", lambda *_: None)


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path, work, few_trees):
    def run(*arguments: object) -> tuple[int, str, str]:
        options = ("--out", tmp_path / "out", "--work", work, "--quick")
        words = ["bundles", "evaluate", *map(str, (*arguments, *options))]
        monkeypatch.setattr(sys, "argv", words)
        code = cli.main()
        out, err = capsys.readouterr()
        return code, out, err

    return run


def changed(path: Path, out: Path, change) -> Path:
    """A copy of a label file with another table."""
    pq.write_table(change(pq.read_table(path)), out)
    return out


def test_every_arm_has_figures_and_the_report_is_written(files, evaluate, tmp_path) -> None:
    code, out, err = evaluate(files[0], "--json")
    assert code == Exit.OK, err
    found = json.loads(out)
    assert found == json.loads((tmp_path / "out/evaluation.json").read_text())
    assert set(found["arms"]) == set(BY_NAME) - {"reference"}
    for name, curve in found["mean"].items():
        for row in curve.values():
            assert set(METRICS) < set(row), name
            assert row["log_error"] > 0
            low, high = row["log_error_interval"]
            assert low <= row["log_error"] <= high
    assert found["focus"] == {"arm": "bundle_fixed", "labels": 48}
    assert {d["against"] for d in found["differences"]} == set(found["arms"]) - {"bundle_fixed"}
    text = (tmp_path / "out/evaluation.md").read_text()
    assert all(arm["title"] in text for arm in found["arms"].values())
    assert (tmp_path / "out/learning-curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "bundle + head, fixed set" in (tmp_path / "out/learning-curves.svg").read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_terminal_shows_tables_the_worst_machine_and_label_efficiency(files, evaluate) -> None:
    code, out, err = evaluate(*files, *FAST)
    assert code == Exit.OK, err
    assert "mean over 2 targets" in out
    assert "worst machine with 48 labels: simulated-" in out
    assert "the best arm without pre-training" in " ".join(out.split())
    assert "\x1b" not in out


@pytest.mark.usefixtures("undrawn")
def test_the_same_seeds_give_the_same_report(files, evaluate, tmp_path) -> None:
    reports = []
    for _ in range(2):
        code, out, _ = evaluate(files[0], *FAST, "--json")
        assert code == Exit.OK
        found = json.loads(out)
        reports.append({k: v for k, v in found.items() if k not in ("created", "elapsed_s")})
    assert reports[0] == reports[1]


@pytest.mark.usefixtures("undrawn")
def test_foreign_data_is_evaluated_against_what_other_machines_teach(files, evaluate) -> None:
    arms = ("--arms", "median,reference,bundle_random")
    code, out, err = evaluate(files[0], "--data", files[1], *arms, "--json")
    assert code == Exit.OK, err
    found = json.loads(out)
    assert [t["name"] for t in found["targets"]] == ["simulated-1"]
    assert set(found["mean"]["reference"]) == {"0"}
    assert found["mean"]["reference"]["0"]["spearman"] > 0.3
    assert found["focus"]["arm"] == "bundle_random"


@pytest.mark.usefixtures("undrawn")
def test_data_without_the_fixed_set_is_evaluated_with_random_labels(
    files, evaluate, tmp_path
) -> None:
    def random_only(table: pa.Table) -> pa.Table:
        return table.filter(pc.equal(table["corpus"], "random"))

    path = changed(files[0], tmp_path / "random.parquet", random_only)
    code, out, err = evaluate("--data", path, *FAST, "--json")
    assert code == Exit.OK, err
    found = json.loads(out)
    assert found["focus"]["arm"] == "bundle_random"
    assert "bundle_fixed" not in found["arms"]


def test_leaving_out_a_target_leaves_out_its_other_thread_counts(files) -> None:
    target = load_labels(files[0]).target
    other = load_labels(files[1]).target
    threads = replace(target, name="another", threads=1)
    flags = replace(target, name="another", flags=("-O2",))
    assert left_out("target", target)(threads)
    assert not left_out("target", target)(flags)
    assert left_out("machine", target)(flags)
    assert not left_out("machine", target)(other)


def without(column: str):
    return lambda table: table.drop_columns([column])


def negative(table: pa.Table) -> pa.Table:
    return _with(table, "seconds", -1.0)


def infinite(table: pa.Table) -> pa.Table:
    return _with(table, "log_speedup", float("inf"))


def old_features(table: pa.Table) -> pa.Table:
    about = json.loads(table.schema.metadata[META]) | {"features_version": 0}
    table = table.append_column("features", [[[0.0]] * table.num_rows])
    return table.replace_schema_metadata({META: json.dumps(about).encode()})


def _with(table: pa.Table, column: str, value: float) -> pa.Table:
    numbers = np.array(table[column].to_pylist())
    numbers[3] = value
    return table.set_column(table.column_names.index(column), column, pa.array(numbers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("low"), "it has no column low"),
        (negative, "a time of -1.0 s cannot be"),
        (infinite, "is not a usable number"),
        (old_features, "its features are of version 0"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(files, evaluate, tmp_path, change, message) -> None:
    path = changed(files[0], tmp_path / "bad.parquet", change)
    code, out, err = evaluate("--data", path, *FAST)
    assert code == Exit.USAGE
    assert out == ""
    assert message in err
    assert "hint: " in err
    assert "Traceback" not in err


def test_a_program_on_both_sides_of_the_split_is_refused_as_leakage(
    files, evaluate, tmp_path
) -> None:
    def twice(table: pa.Table) -> pa.Table:
        """With features, and the test programs again under names that are not for testing."""
        labels = load_labels(files[0])
        about = json.loads(table.schema.metadata[META])
        about = json.dumps(about | {"features_version": FEATURES_VERSION}).encode()
        table = table.append_column("features", [labels.features.tolist()])
        table = table.append_column("work", pa.array(labels.work))
        again = table.filter(pa.array(is_test(labels.program) & ~labels.fixed))
        names = [f"{9:08x}{name[8:]}" for name in again["program"].to_pylist()]
        again = again.set_column(again.column_names.index("program"), "program", [names])
        return pa.concat_tables([table, again]).replace_schema_metadata({META: about})

    path = changed(files[0], tmp_path / "twice.parquet", twice)
    code, _, err = evaluate("--data", path, *FAST)
    assert code == Exit.USAGE
    assert "of the other part again: equal features and work" in err
    assert "both sides of the split" in err


def few(table: pa.Table) -> pa.Table:
    return table.filter(pc.less(table["number"], 4))


@pytest.mark.usefixtures("undrawn")
def test_a_machine_with_too_few_labels_is_left_out_with_a_warning(
    files, evaluate, tmp_path
) -> None:
    path = changed(files[1], tmp_path / "few.parquet", few)
    code, out, err = evaluate(files[0], path, *FAST, "--json")
    assert code == Exit.OK, err
    found = json.loads(out)
    assert [s["target"] for s in found["skipped"]] == ["simulated-1"]
    assert "warning: left out: simulated-1" in err
    assert [t["name"] for t in found["targets"]] == ["simulated-0"]


def test_a_machine_with_too_few_labels_alone_is_refused(files, evaluate, tmp_path) -> None:
    path = changed(files[1], tmp_path / "few.parquet", few)
    code, _, err = evaluate(path, *FAST)
    assert code == Exit.USAGE
    assert "nothing left to evaluate" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bundle", "x", "--leave", "target"), "exclude each other"),
        (("--leave", "planet"), "leaving out a planet"),
        (("--arms", "magic"), "no arm 'magic'"),
    ],
)
def test_options_that_make_no_sense_are_refused(files, evaluate, options, message) -> None:
    code, _, err = evaluate(files[0], *options)
    assert code == Exit.USAGE
    assert message in err
    assert "Traceback" not in err


def test_budgets_that_are_no_numbers_are_refused(monkeypatch, capsys, files, tmp_path) -> None:
    words = ["bundles", "evaluate", str(files[0]), "--out", str(tmp_path), "--budgets", "8;16"]
    monkeypatch.setattr(sys, "argv", words)
    assert cli.main() == Exit.USAGE
    assert "not a list of numbers" in capsys.readouterr().err


def test_no_file_at_all_is_refused(evaluate) -> None:
    code, _, err = evaluate()
    assert code == Exit.USAGE
    assert "no label file" in err


def test_the_same_target_twice_is_refused(files, evaluate) -> None:
    code, _, err = evaluate(files[0], files[0].parent / ".." / files[0].parent.name / files[0].name)
    assert code == Exit.USAGE
    assert "two files are of the target simulated-0" in err
