import os
import threading
import time
from pathlib import Path

import pytest

from agent.errors import StateError
from agent.measure.cache import STALE_S, Cache

KEY = "ab" * 32


def put(cache: Cache, content: bytes, key: str = KEY) -> Path:
    with cache.workplace() as place:
        (place / "built").write_bytes(content)
        return cache.put(key, place / "built")


def test_what_was_put_is_found_and_starts_with_the_content(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    path = put(cache, b"machine code")
    assert cache.get(KEY) == path
    assert path.read_bytes().startswith(b"machine code")


def test_nothing_is_found_in_an_empty_cache(tmp_path: Path) -> None:
    assert Cache(tmp_path).get(KEY) is None


@pytest.mark.parametrize("damage", [b"", b"machine", b"machine codf" + b"x" * 80])
def test_a_damaged_entry_counts_as_absent(tmp_path: Path, damage: bytes) -> None:
    cache = Cache(tmp_path)
    put(cache, b"machine code").write_bytes(damage)
    assert cache.get(KEY) is None


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = put(cache, b"machine code")
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    assert cache.get(KEY) is None


def test_the_directory_is_private(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    put(cache, b"x")
    assert cache.root.stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, cap_bytes=1500)
    for age, key in ((300, "aa" * 32), (200, "bb" * 32), (100, "cc" * 32)):
        path = put(cache, b"x" * 500, key)
        os.utime(path, (time.time() - age, time.time() - age))
    assert cache.get("aa" * 32)  # used now, so bb is the oldest
    cache.trim()
    assert [cache.get(k * 32) is not None for k in ("aa", "bb", "cc")] == [True, False, True]


def test_work_places_left_by_a_power_cut_are_removed_when_stale(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old, new = tmp_path / "tmp-old", tmp_path / "tmp-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, time.time() - 2 * STALE_S))
    cache.trim()
    assert not old.exists()
    assert new.exists()


def test_a_root_that_is_a_file_is_a_state_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StateError, match="cannot write compiled code") as caught:
        put(Cache(tmp_path / "f"), b"x")
    assert "--state-dir" in caught.value.hint


def test_rivals_writing_the_same_entry_leave_a_whole_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    rivals = [threading.Thread(target=put, args=(cache, b"same" * 9999)) for _ in range(8)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert cache.get(KEY) is not None
    assert not list(tmp_path.glob("tmp-*"))
