"""Which prebuilt executable is taken, when, and what is said where none can be.

What the real ones compute is tested with the wheels that carry them (tests/system).
"""

import hashlib
import json
from dataclasses import replace

import pytest

from agent.errors import CompilerError
from agent.measure import prebuilt
from agent.measure.cache import Cache
from agent.measure.machine import read_machine
from agent.measure.prebuilt import INDEX, find_prebuilt, program_name
from agent.measure.resolve import toolchain_for_set

SOURCE = "int one_of_the_set;"
VECTORS = {"x86-64-v2": 16, "x86-64-v3": 32, "x86-64-v4": 64}


def machine(level):
    return replace(read_machine(), level=level)


@pytest.fixture
def folder(tmp_path):
    """Three levels' executables (none of which could run) and their index."""
    place = tmp_path / "prebuilt"
    place.mkdir()
    executables = {}
    for level, width in VECTORS.items():
        (place / level).write_text(level)
        executables[level] = {
            "sha256": hashlib.sha256(level.encode()).hexdigest(),
            "target": "x86_64-linux-musl",
            "flags": ["-O3"],
            "vector_bytes": width,
        }
    programs = [program_name(SOURCE)]
    index = {"schema": 1, "version": "clang 9", "programs": programs, "executables": executables}
    (place / INDEX).write_text(json.dumps(index))
    return place


@pytest.fixture
def no_compiler(monkeypatch, tmp_path, folder):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(prebuilt, "PREBUILT", folder)


@pytest.mark.parametrize("level", VECTORS)
def test_the_highest_level_that_the_machine_runs_is_taken(folder, level):
    found = find_prebuilt(machine(level), folder)
    assert (found.kind, found.compiler) == ("prebuilt", str(folder / level))
    assert found.vector_bytes() == VECTORS[level]


@pytest.mark.parametrize("level", ["x86-64-v1", "aarch64", "riscv64"])
def test_a_machine_that_runs_none_of_them_is_told_so(folder, level):
    with pytest.raises(CompilerError, match=f"this machine is {level}") as told:
        find_prebuilt(machine(level), folder)
    assert "Install a C compiler" in told.value.hint


def test_a_compiler_that_works_is_preferred(monkeypatch, folder):
    monkeypatch.setattr(prebuilt, "PREBUILT", folder)
    assert toolchain_for_set(None, machine("x86-64-v3")).kind == "compiler"


def test_without_a_compiler_the_set_is_taken(no_compiler):
    assert toolchain_for_set(None, machine("x86-64-v3")).kind == "prebuilt"


def test_the_set_can_be_asked_for_by_name(monkeypatch, folder):
    monkeypatch.setattr(prebuilt, "PREBUILT", folder)
    assert toolchain_for_set("prebuilt", machine("x86-64-v3")).kind == "prebuilt"


def test_a_compiler_that_was_named_is_never_replaced_by_the_set(no_compiler, monkeypatch):
    with pytest.raises(CompilerError, match="was not found"):
        toolchain_for_set("mycc", machine("x86-64-v3"))
    monkeypatch.setenv("CC", "mycc")
    with pytest.raises(CompilerError, match="was not found"):
        toolchain_for_set(None, machine("x86-64-v3"))


def test_an_installation_without_the_set_says_that_a_compiler_is_missing(
    no_compiler, monkeypatch, tmp_path
):
    monkeypatch.setattr(prebuilt, "PREBUILT", tmp_path / "nothing")
    with pytest.raises(CompilerError, match="no C compiler was found"):
        toolchain_for_set(None, machine("x86-64-v3"))


def test_a_program_that_is_not_in_the_set_is_refused_alone(folder):
    found = find_prebuilt(machine("x86-64-v3"), folder)
    held, other = found.build([SOURCE, "int another;"], Cache(folder))
    assert held == program_name(SOURCE)
    assert isinstance(other, CompilerError)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 2}', '{"schema": 1}', "[" * 100_000, " " * (300 << 10)],
    ids=["empty", "cut off", "a list", "another schema", "bare", "deep", "long"],
)
def test_a_damaged_index_is_told_with_what_to_do(folder, text):
    (folder / INDEX).write_text(text)
    prebuilt._read_index.cache_clear()
    with pytest.raises(CompilerError, match="the prebuilt set is damaged") as told:
        find_prebuilt(machine("x86-64-v3"), folder)
    assert "again" in told.value.hint


@pytest.mark.parametrize("damage", [lambda p: p.write_text("other"), lambda p: p.unlink()])
def test_an_executable_that_is_not_the_one_of_the_index_never_runs(folder, tmp_path, damage):
    found = find_prebuilt(machine("x86-64-v3"), folder)
    damage(folder / "x86-64-v3")
    with pytest.raises(CompilerError, match="damaged"):
        found.worker(Cache(tmp_path / "cache"))


def test_the_executable_runs_from_the_cache_as_its_owner_alone(folder, tmp_path):
    found = find_prebuilt(machine("x86-64-v3"), folder)
    worker = found.worker(Cache(tmp_path / "cache"))
    assert worker.is_relative_to(tmp_path / "cache")
    assert worker.stat().st_mode & 0o777 == 0o700
    assert worker.read_bytes().startswith(b"x86-64-v3")
