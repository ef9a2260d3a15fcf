"""Manual pages are made from the command line's own help."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from agent.commands.root import app

MAKE = Path(__file__).parents[3] / "debian" / "make_help.py"


@pytest.fixture(scope="module")
def share(tmp_path_factory):
    made = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, MAKE, made], check=True, timeout=120)
    return made


def test_every_command_has_a_page_that_names_all_its_options(share):
    for name, command in typer.main.get_command(app).commands.items():
        page = (share / "man" / "man1" / f"agent-{name}.1").read_text().replace("\\-", "-")
        options = [option for p in command.params for option in p.opts if option.startswith("--")]
        assert [o for o in options if o not in page] == [], name


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
def test_pages_are_roff_that_groff_does_not_complain_of(share):
    pages = sorted((share / "man" / "man1").iterdir())
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", *pages], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Predict many legal schedules, best first" in done.stdout
