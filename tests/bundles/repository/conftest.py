"""A repository that was made once, and copies of it."""

import shutil
from pathlib import Path

import pytest

from bundles.repository import pem
from bundles.repository.making import make_repository
from tests.bundles.repository.repositories import Client, bundle_like, first_root, place


@pytest.fixture(scope="session")
def made_repository(tmp_path_factory) -> Path:
    """A new repository whose keys open quickly; only to be copied."""
    directory = tmp_path_factory.mktemp("made") / "repository"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pem, "SCRYPT_N", 2)
        make_repository(place(directory), 3, 2)
    return directory


@pytest.fixture
def repository(made_repository, tmp_path, monkeypatch) -> Path:
    """A repository of one's own."""
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    return Path(shutil.copytree(made_repository, tmp_path / "repository"))


@pytest.fixture
def public(repository) -> Path:
    return repository / "public"


@pytest.fixture(scope="session")
def versions(tmp_path_factory, tiny_bundle) -> list[Path]:
    """Five bundles of one name, each newer than the one before."""
    folder = tmp_path_factory.mktemp("versions")
    return [
        bundle_like(tiny_bundle, folder / str(n), str(n), created=f"2026-0{n}-01T00:00:00Z")
        for n in range(1, 6)
    ]


@pytest.fixture
def client(repository, tmp_path) -> Client:
    """A machine that knows the first root and has seen nothing yet."""
    return Client(tmp_path / "client", first_root(repository))


@pytest.fixture
def fresh(repository, tmp_path):
    """Makes such machines."""
    count = iter(range(1_000))
    return lambda: Client(tmp_path / f"fresh-{next(count)}", first_root(repository))
