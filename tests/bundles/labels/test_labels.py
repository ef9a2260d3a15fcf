"""Label files: what is written comes back, and what cannot be is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agent.errors import AgentError
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION
from agent.loopnest.program import Loop
from bundles.labels.labels import META, is_test, load_labels, write_labels
from bundles.labels.programs import corpus_program, program_digest
from bundles.labels.repeats import ONE_CORE
from bundles.labels.target import Target

TARGET = Target(
    name="box-gcc-O3-native-t2",
    machine="box",
    architecture="x86_64",
    level="x86-64-v3",
    simd_bytes=32,
    threads=2,
    l1=32768,
    l2=1 << 20,
    l3=0,
    virtual=False,
    compiler="gcc",
    version="12.2.0",
    flags=("-O3", "-march=native"),
)


def row(number: int, schedule: str, **changes: object) -> dict[str, object]:
    program = corpus_program(0, number)
    plain = {
        "program": program_digest(program),
        "family": program.name,
        "corpus": "random",
        "number": number,
        "seed": 0,
        "schedule": schedule,
        "outcome": "ok",
        "seconds": 0.5,
        "log_speedup": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    return plain | changes


def outermost(number: int) -> str:
    found = (node for node in corpus_program(0, number).body if isinstance(node, Loop))
    return f"tile {next(found).iterator} 4"


def written(path: Path, rows: list[dict[str, object]], target: Target = TARGET) -> Path:
    write_labels(path, target, rows)
    return path


def test_labels_come_back_with_features_made_again_from_the_corpus(tmp_path: Path) -> None:
    rows = [row(3, "original"), row(3, outermost(3), log_speedup=0.7, low=0.6, high=0.9)]
    found = load_labels(written(tmp_path / "a.parquet", rows))
    assert found.target == TARGET
    assert found.features.shape == (2, len(FEATURES))
    assert list(found.base) == [0, 0]
    assert found.log_speedup[1] == 0.7
    assert found.sd[1] == pytest.approx(math.hypot(0.3 / 2 / 1.2815515655446004, ONE_CORE))
    assert not np.array_equal(found.features[0], found.features[1])


def test_versions_that_failed_are_left_out(tmp_path: Path) -> None:
    rows = [row(3, "original"), row(3, outermost(3), outcome="timeout", seconds=0.0)]
    assert list(load_labels(written(tmp_path / "a.parquet", rows)).schedule) == ["original"]


def test_a_program_whose_original_failed_is_left_out(tmp_path: Path) -> None:
    rows = [row(3, outermost(3)), row(4, "original")]
    assert len(set(load_labels(written(tmp_path / "a.parquet", rows)).program)) == 1


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan"), 0.0])
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, seconds: float) -> None:
    path = written(tmp_path / "a.parquet", [row(3, "original", seconds=seconds)])
    with pytest.raises(AgentError, match="cannot be"):
        load_labels(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row(3, "original").items() if k != "log_speedup"}]
    with pytest.raises(AgentError, match="no column log_speedup"):
        load_labels(written(tmp_path / "a.parquet", rows))


def test_a_column_of_words_for_numbers_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [row(3, "original", seconds="fast")])
    with pytest.raises(AgentError, match="does not hold numbers"):
        load_labels(path)


def test_a_program_the_corpus_no_longer_gives_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [row(3, "original", program="0" * 24)])
    with pytest.raises(AgentError, match="another one in this version"):
        load_labels(path)


def test_a_schedule_timed_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [row(3, "original"), row(3, "original")])
    with pytest.raises(AgentError, match="twice"):
        load_labels(path)


def test_features_of_another_version_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [row(3, "original", features=[0.0], work=1.0)])
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[META]) | {"features_version": FEATURES_VERSION + 1}
    pq.write_table(table.replace_schema_metadata({META: json.dumps(about).encode()}), path)
    with pytest.raises(AgentError, match="features are of version"):
        load_labels(path)


def test_a_file_that_names_no_machine_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({k: [v] for k, v in row(3, "original").items()}), tmp_path / "a")
    with pytest.raises(AgentError, match="which machine"):
        load_labels(tmp_path / "a")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(AgentError, match="cannot read"):
        load_labels(tmp_path / "a")


def test_three_programs_in_ten_are_for_testing() -> None:
    names = np.array([f"{n * 2654435761 % 2**32:08x}" for n in range(10_000)])
    assert 0.28 < is_test(names).mean() < 0.32
