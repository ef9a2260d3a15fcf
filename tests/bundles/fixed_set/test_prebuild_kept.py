"""Executables that were made before are taken for the same input alone; nothing is compiled."""

import pytest

from bundles.fixed_set import prebuild as prebuilding
from bundles.fixed_set.prebuild import KEPT, LEVELS, prebuild


@pytest.fixture
def linked(monkeypatch, tmp_path):
    """What was compiled, in order; a folder for what is kept is there and named."""
    found = []

    def link(target, units, built):
        found.append((target, sorted(units)))
        built.write_text(repr(units))

    monkeypatch.setattr(prebuilding, "_link", link)
    monkeypatch.setattr(prebuilding, "_version", lambda: "clang of a test")
    (tmp_path / "kept").mkdir()
    monkeypatch.setenv(KEPT, str(tmp_path / "kept"))
    return found


def test_what_was_made_of_the_same_before_is_taken(linked, tmp_path) -> None:
    indexes = [prebuild(LEVELS[:2], tmp_path / name, ["void f(void) {}"]) for name in "ab"]
    assert len(linked) == 2
    assert indexes[0] == indexes[1]
    for level in LEVELS[:2]:
        made, taken = (tmp_path / name / level.name for name in "ab")
        assert made.read_bytes() == taken.read_bytes()


def test_another_program_or_compiler_is_compiled(linked, tmp_path, monkeypatch) -> None:
    prebuild(LEVELS[:1], tmp_path / "a", ["void f(void) {}"])
    prebuild(LEVELS[:1], tmp_path / "b", ["void f(void) { }"])
    monkeypatch.setattr(prebuilding, "_version", lambda: "another clang")
    prebuild(LEVELS[:1], tmp_path / "c", ["void f(void) { }"])
    assert len(linked) == 3


def test_without_a_folder_for_it_nothing_is_kept(linked, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(KEPT)
    for name in "ab":
        prebuild(LEVELS[:1], tmp_path / name, ["void f(void) {}"])
    assert len(linked) == 2
    assert list((tmp_path / "kept").iterdir()) == []
