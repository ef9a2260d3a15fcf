"""What the tests of updates share."""

from pathlib import Path

import pytest

from tests.agent.update.published import Centre, copied, made_bundle, new_centre


@pytest.fixture(scope="session")
def first(tmp_path_factory) -> Path:
    return made_bundle(tmp_path_factory.mktemp("bundle") / "one", "1")


@pytest.fixture(scope="session")
def second(tmp_path_factory) -> Path:
    return made_bundle(tmp_path_factory.mktemp("bundle") / "two", "2", seed=1)


@pytest.fixture(scope="session")
def misleading(tmp_path_factory) -> Path:
    return made_bundle(tmp_path_factory.mktemp("bundle") / "bad", "3", misleading=True)


@pytest.fixture(scope="session")
def new_repository(tmp_path_factory) -> Centre:
    """Made once, to be copied."""
    return new_centre(tmp_path_factory.mktemp("centre") / "repository")


@pytest.fixture
def centre(tmp_path, new_repository) -> Centre:
    """A repository of one's own with nothing in it."""
    return copied(new_repository, tmp_path / "centre")
