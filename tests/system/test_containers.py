"""What containers/ says is true of this source and of what the documents show."""

import re

import pytest

from tests.system.conftest import REPOSITORY

FOLDER = REPOSITORY / "containers"
STAGE = re.compile(r"(?m)^FROM \S+ AS (\S+)$")


def container_file():
    return (FOLDER / "Containerfile").read_text()


def test_everything_that_an_image_copies_is_there():
    copied = re.findall(r"(?m)^COPY (?!--from)(?:--\S+ )*(.+) \S+$", container_file())
    names = [name for line in copied for name in line.split()]
    assert "pyproject.toml" in names
    assert [name for name in names if name != "." and not (REPOSITORY / name).exists()] == []


def test_every_image_of_the_compose_file_is_one_that_can_be_built():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    built = {s["build"]["target"]: s["image"] for s in services.values() if "build" in s}
    assert built == {
        "centre": "localhost/calibration-centre",
        "agent": "localhost/calibration-agent",
    }
    assert set(built) <= set(STAGE.findall(container_file()))
    assert services["agent"]["network_mode"] == "none"  # what measures cannot talk


def test_the_proxy_is_the_one_that_the_documents_show():
    page = (REPOSITORY / "docs/how-to/run-the-centre.md").read_text()
    shown = page.split("```nginx\n")[1].split("```")[0]
    assert (FOLDER / "nginx.conf").read_text() == shown.replace("127.0.0.1:8001", "centre:8001")
