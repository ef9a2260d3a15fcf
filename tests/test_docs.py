"""Documents hang together: every link leads somewhere, every decision and file is there."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import SLOW

REPOSITORY = Path(__file__).parent.parent
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
ARCHITECTURE = REPOSITORY / "docs" / "explanation" / "architecture.md"
HOUSES = ("agent", "agent/loopnest", "bundles", "bundles/fleet")  # folders of rooms
NAMED = re.compile(r"`((?:agent|bundles|tests|tools|debian|systemd)/[^`\s]*)`")
MADE = {"agent/kernels/prebuilt/"}  # by a build: no checkout has it
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]+)?\)")


def headings(path):
    """Anchors as they are made of headings: small letters, no punctuation, dashes for spaces."""
    found = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(document):
    for name, anchor in LINK.findall(re.sub(r"(?s)```.*?```", "", document.read_text())):
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), name
        if anchor and target.suffix == ".md":
            assert anchor[1:] in headings(target), f"{name}{anchor}"


def test_every_decision_is_listed():
    folder = REPOSITORY / "docs" / "adr"
    listed = set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {p.name for p in folder.glob("[0-9]*.md")}


def named_paths(document):
    """Paths of this repository in a document; patterns and `<placeholders>` are none."""
    found = {path for path in NAMED.findall(document.read_text()) if not set(path) & set("*?<>{}")}
    return found - MADE


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_every_path_that_is_named_exists(document):
    if document.parent.name != "adr":  # decisions speak of their time
        missing = {path for path in named_paths(document) if not (REPOSITORY / path).exists()}
        assert not missing


def test_every_room_is_named_in_the_architecture():
    inits = [path for house in HOUSES for path in (REPOSITORY / house).glob("*/__init__.py")]
    rooms = {f"{path.parent.relative_to(REPOSITORY).as_posix()}/" for path in inits}
    assert rooms <= named_paths(ARCHITECTURE)


def test_the_layers_in_the_architecture_are_those_of_the_contracts():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    for layers in (c for c in contracts["contracts"] if c["type"] == "layers"):
        [name] = layers["containers"]
        rows = f"    {name:<20}" + ("\n" + " " * 24).join(layers["layers"]) + "\n"
        assert rows in ARCHITECTURE.read_text(), name


def prose(text):
    """Lines outside code, tables and headings."""
    plain = re.sub(r"(?ms)^```.*?^```$|<!--.*?-->", "", text)
    return [x for x in plain.split("\n") if not x.startswith(("|", "#", "    "))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_prose_wraps_at_a_width_that_differences_can_show(document):
    long = [x for x in prose(document.read_text()) if len(x) > 100 and " " in x.strip("- *")]
    assert [x for x in long if not x.lstrip("- *").startswith(("[", "`", "<"))] == []


def test_every_file_that_is_listed_as_slow_exists():
    listed = [line for line in SLOW if line.startswith("tests/")]
    assert [name for name in listed if not (REPOSITORY / name).exists()] == []
