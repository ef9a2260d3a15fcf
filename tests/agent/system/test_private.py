"""Who may replace a part of the way to a directory: by real users, links and modes."""

import os
import stat
from pathlib import Path

import pytest

from agent.errors import StateError
from agent.system.private import ANYONE, inspect_path, may_write, open_code, refuse_if_replaceable
from tests.other_user import NOBODY, needs_root

ME = os.geteuid()


def others(path):
    """Who besides root and this user may replace a part of the way."""
    return {uid for uid, _ in inspect_path(path).replacers} - {0, ME}


def refused(path):
    with pytest.raises(StateError) as caught:
        refuse_if_replaceable(inspect_path(path), ME)
    return caught.value


def test_a_directory_of_ones_own_below_the_temporary_one_is_nobody_elses(tmp_path):
    assert others(tmp_path) == set()
    assert stat.S_ISDIR(inspect_path(tmp_path).found.st_mode)


def test_what_is_not_there_yet_belongs_to_who_may_make_it(tmp_path):
    assert inspect_path(tmp_path / "a" / "b").found is None
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert others(tmp_path / "open" / "new" / "x") == {ANYONE}


def test_a_directory_above_that_everybody_may_write_is_refused_by_name(tmp_path):
    (tmp_path / "open" / "mine").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    error = refused(tmp_path / "open" / "mine")
    assert f"any user may replace what is in {tmp_path / 'open'}" in error.message
    assert f"chmod go-w {tmp_path / 'open'}" in error.hint


def test_a_sticky_directory_that_everybody_may_write_is_not(tmp_path):
    (tmp_path / "sticky" / "mine").mkdir(parents=True)
    (tmp_path / "sticky").chmod(0o1777)
    assert others(tmp_path / "sticky" / "mine") == set()
    assert others(tmp_path / "sticky" / "new") == set()


def test_links_are_followed_and_their_places_looked_at(tmp_path):
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("../there")
    found = inspect_path(tmp_path / "open" / "link" / "deep" / ".." / "deep")
    assert found.found.st_ino == (tmp_path / "there" / "deep").stat().st_ino
    assert others(tmp_path / "open" / "link") == set()
    (tmp_path / "open").chmod(0o777)
    refused(tmp_path / "open" / "link" / "deep")


def test_links_in_a_circle_are_an_error_of_the_system(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        inspect_path(tmp_path / "a")


def test_a_file_on_the_way_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        inspect_path(tmp_path / "file" / "below")


def test_no_descriptor_is_left_open(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (tmp_path / "link", tmp_path / "none" / "x"):
        inspect_path(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@needs_root
def test_another_users_directory_on_the_way_is_refused_for_root_and_not_for_that_user(open_place):
    (open_place / "theirs" / "roots").mkdir(parents=True)
    os.chown(open_place / "theirs", NOBODY.pw_uid, NOBODY.pw_gid)
    place = inspect_path(open_place / "theirs" / "roots")
    assert "the user nobody may replace" in refused(place.path).message
    refuse_if_replaceable(place, NOBODY.pw_uid)


@needs_root
def test_a_group_that_is_one_users_own_counts_as_that_user(tmp_path):
    tmp_path.chmod(0o770)
    assert may_write(tmp_path.stat()) == {0}
    os.chown(tmp_path, 0, 54_321)
    assert may_write(tmp_path.stat()) == {0, ANYONE}


@pytest.mark.parametrize("mode", [0o702, 0o777])
def test_code_that_others_may_write_is_not_opened(tmp_path, mode):
    (tmp_path / "code").touch()
    os.close(open_code(tmp_path / "code"))
    (tmp_path / "code").chmod(mode)
    with pytest.raises(PermissionError, match="another user may write"):
        open_code(tmp_path / "code")


def test_a_pipe_in_the_place_of_code_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "code")
    with pytest.raises(PermissionError):
        open_code(tmp_path / "code")
