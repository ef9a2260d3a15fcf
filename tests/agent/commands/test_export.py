"""`--export`: tables for files."""

import csv
import io

import pytest

from tests.conftest import SIZES, agent


@pytest.fixture
def ranked(calibrated, gemm):
    def run(*more):
        where = ("--state-dir", calibrated, "--candidates", 12, "--top", 3, "--no-run")
        return agent("rank", gemm, *SIZES, *where, *more)

    return run


def test_csv_holds_the_numbers_of_the_ranking(ranked):
    rows = list(csv.DictReader(io.StringIO(ranked("--export", "csv").out)))
    told = ranked("--json").json["ranking"]
    assert [r["schedule"] for r in rows] == [r["schedule"] for r in told]
    for row, entry in zip(rows, told, strict=True):
        assert float(row["speedup"]) == pytest.approx(entry["speedup"], rel=1e-5)
        assert float(row["seconds_high"]) == pytest.approx(entry["seconds_high"], rel=1e-5)


def test_markdown_is_a_table_and_nothing_else(ranked):
    head, rule, *rows = ranked("--export", "md").out.splitlines()
    assert head.startswith("| schedule | speedup | low | high |")
    assert set(rule) <= set("| -")
    assert [row.count(" | ") for row in rows] == [head.count(" | ")] * 3


@pytest.mark.parametrize("other", ["--json", "--plain"])
def test_a_table_for_a_file_is_the_only_answer(ranked, other):
    ran = ranked("--export", "csv", other)
    assert ran.code == 2
    assert "--export" in ran.err


def test_measurements_are_exported_too(tmp_path, gemm):
    where = ("--state-dir", tmp_path / "state", "--schedule", "interchange j k", "--export", "csv")
    ran = agent("measure", gemm, *SIZES, *where, AGENT_BUDGET="2s")
    (row,) = csv.DictReader(io.StringIO(ran.out))
    assert (row["schedule"], row["outcome"]) == ("interchange j k", "ok")
    assert float(row["low"]) <= float(row["speedup"]) <= float(row["high"])
