"""Hints name a page that is there, whichever way the agent was installed."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.system.documents import page_path

REPOSITORY = Path(__file__).parents[3]
SOURCE = sorted((REPOSITORY / "agent").rglob("*.py")) + sorted(
    (REPOSITORY / "bundles").rglob("*.py")
)
PAGE = "docs/reference/report.md"


def said(tree):
    """Every text in a module that is no documentation of its own."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    own = {id(n.body[0].value) for n in ast.walk(tree)
           if isinstance(n, owners) and n.body and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in own:
            yield node.value


def test_a_text_that_names_a_page_has_asked_where_it_is():
    texts = [text for path in SOURCE if "docs/" in (text := path.read_text())]
    named = {words for text in texts for words in said(ast.parse(text)) if "docs/" in words}
    assert PAGE in named
    assert {text for text in named if not (REPOSITORY / text).is_file()} == set()


def test_a_checkout_has_its_pages():
    assert Path(page_path(PAGE)) == REPOSITORY / PAGE


@pytest.fixture
def installed(tmp_path):
    """A function that says where a page is, in an environment that has some files."""
    site = tmp_path / "lib" / "agent" / "system"
    site.mkdir(parents=True)
    shutil.copy(REPOSITORY / "agent/system/documents.py", site)

    def where(*files):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True)
            (tmp_path / file).touch()
        ask = f"import sys; sys.prefix = {str(tmp_path)!r}; import documents as d; "
        ask += f"print(d.page_path('docs/no-such-page.md'), d.page_path({PAGE!r}))"
        command = [sys.executable, "-c", ask]
        done = subprocess.run(command, cwd=site, capture_output=True, text=True, check=True)
        return done.stdout.split()

    return where


def test_an_environment_has_the_pages_that_the_wheel_brought(installed, tmp_path):
    brought = f"share/doc/calibration-agent/{PAGE}"
    assert installed(brought) == ["docs/no-such-page.md", str(tmp_path / brought)]


def test_without_documents_a_page_has_its_name(installed):
    assert installed()[0] == "docs/no-such-page.md"
