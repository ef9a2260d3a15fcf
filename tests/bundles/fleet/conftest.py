"""Every test of the centre that keeps something runs on SQLite and on a real PostgreSQL."""

import itertools

import pytest

fleets = pytest.importorskip("fleets", reason="a helper of these tests")
for needed in ("alembic", "argon2", "joserfc", "msgspec", "psycopg", "sqlalchemy", "uvicorn"):
    pytest.importorskip(needed, reason="the extra `fleet` is not installed")

_NUMBERS = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def cheap_passwords():
    exec(fleets.CHEAP)


@pytest.fixture(scope="session")
def cluster():
    if not fleets.postgres_is_there():
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    with fleets.postgres() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    """Where an empty database is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fleet.db'}"
    return request.getfixturevalue("cluster").make(f"test{next(_NUMBERS)}")


@pytest.fixture
def database(address):
    from bundles.fleet.storage.database import open_database

    found = open_database(address)
    yield found
    found.close()
