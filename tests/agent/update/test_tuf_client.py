import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent.update.centre import Centre
from tests.agent.update.servers import serving
from tests.conftest import environment

CLIENT = Path(__file__).with_name("tuf_client.py")


@pytest.fixture
def repository(tmp_path):
    made = Centre(tmp_path / "repository", time.time())
    made.offer("stable", content=b"a bundle")
    made.publish("stable")
    return made


def client(tmp_path, *arguments):
    for name in ("metadata", "targets"):
        (tmp_path / name).mkdir(exist_ok=True)
    root = str(CLIENT.parents[2])
    command = [sys.executable, CLIENT, "--metadata-dir", tmp_path / "metadata", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(PYTHONPATH=root)
    )


def test_the_conformance_client_refreshes_and_downloads(tmp_path, repository):
    with serving(repository.directory) as server:
        (tmp_path / "root.json").write_bytes(repository.trusted_root)
        assert client(tmp_path, "init", tmp_path / "root.json").returncode == 0
        url = ("--metadata-url", f"{server.url}/metadata/")
        assert client(tmp_path, *url, "refresh").returncode == 0
        wanted = ("--target-name", "stable/settled.bundle", "--target-dir", tmp_path / "targets")
        where = ("--target-base-url", f"{server.url}/targets/")
        for _ in range(2):
            assert client(tmp_path, *url, *wanted, *where, "download").returncode == 0
        [path] = (tmp_path / "targets").iterdir()
        assert path.read_bytes() == b"a bundle"
        assert sum("targets/" in asked for asked in server.asked) == 1


def test_the_conformance_client_says_no_by_its_exit_code(tmp_path, repository):
    repository.path_of("timestamp").write_text("{}")
    with serving(repository.directory) as server:
        (tmp_path / "root.json").write_bytes(repository.trusted_root)
        client(tmp_path, "init", tmp_path / "root.json")
        done = client(tmp_path, "--metadata-url", f"{server.url}/metadata/", "refresh")
    assert done.returncode == 1
    assert "cannot be trusted" in done.stderr
