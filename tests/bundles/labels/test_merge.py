"""Label files of one target put together."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import InputError
from bundles.labels.labels import load_labels
from bundles.labels.merge import merge_labels
from tests.bundles.labels.test_labels import TARGET, outermost, row, written


def test_the_programs_of_all_files_are_there_once_and_the_first_file_counts(tmp_path: Path) -> None:
    first = written(tmp_path / "a.parquet", [row(3, "original", seconds=0.5)])
    later = [row(3, "original", seconds=0.9), row(4, "original"), row(4, outermost(4))]
    second = written(tmp_path / "b.parquet", later)
    out = tmp_path / "all.parquet"
    assert merge_labels([first, second], out) == 2
    found = load_labels(out)
    assert found.target == TARGET
    assert list(found.schedule) == ["original", "original", outermost(4)]
    assert found.seconds[0] == 0.5


def test_a_column_that_one_file_lacks_is_empty_there(tmp_path: Path) -> None:
    earlier = row(3, "original")
    del earlier["outcome"]  # without it all rows are usable
    old = written(tmp_path / "a.parquet", [earlier])
    new = written(tmp_path / "b.parquet", [row(4, "original", source="")])
    merge_labels([new, old], tmp_path / "all.parquet")
    assert len(load_labels(tmp_path / "all.parquet")) == 2


def test_files_of_two_targets_are_not_put_together(tmp_path: Path) -> None:
    one = written(tmp_path / "a.parquet", [row(3, "original")])
    other = written(tmp_path / "b.parquet", [row(4, "original")], replace(TARGET, threads=4))
    with pytest.raises(InputError, match="or they differ in"):
        merge_labels([one, other], tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    one = written(tmp_path / "a.parquet", [row(3, "original")])
    with pytest.raises(InputError, match="cannot write"):
        merge_labels([one], tmp_path / "no" / "all.parquet")
