"""What docs/reference/configuration.md and config.toml say is made from the table of settings.

REGENERATE_GOLDEN=1 ./check tests/agent/settings/test_config_reference.py   writes both again.
"""

import json
import os
import re
import textwrap
from pathlib import Path

from agent.settings.config import SETTINGS
from agent.settings.resolve import load_config

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"
FILE = PAGE.with_name("config.toml")
HEAD = """\
# Settings of the calibration agent, for this machine: all of them, each with its default. This file
# may stay as it is, or be empty. `agent config show` says what is in force; after a change:
# `agent config check`. Files in conf.d/ beside this one are read after it, in the order of their
# names; best put yours there, as in conf.d/50-site.toml, and leave this one to the package.
#
# A duration is 20s, 2m, 1m30s, 12h or 30d. "" stands for the default, which the words name.
"""
BEGIN, END = "<!-- the table of agent/settings/config.py -->\n", "<!-- end of the table -->\n"


def rows():
    yield "| setting | may be | default | what it is for | variable |\n|---|---|---|---|---|\n"
    for s in SETTINGS.values():
        default = f"`{s.default}`" if s.default else "-"
        yield f"| `{s.name}` | {s.values} | {default} | {s.words} | `{s.variable}` |\n"


def test_the_reference_of_the_configuration_is_made_from_the_table():
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)
    if os.environ.get("REGENERATE_GOLDEN"):
        PAGE.write_text(before + BEGIN + "".join(rows()) + END + after)
    else:
        assert table == "".join(rows())


def test_the_example_of_the_reference_is_right(tmp_path):
    example = PAGE.read_text().split("```toml\n")[1].split("```")[0]
    path = tmp_path / "config.toml"
    path.write_text(example)
    found = load_config({"AGENT_CONFIG": str(path), "HOME": "/home/p"}, {})
    assert found.repository == "https://bundles.example.org"
    assert (found.budget_s, found.on_battery) == (60.0, False)


def example():
    """Every setting, commented out, with its words and its default."""
    yield HEAD
    for s in SETTINGS.values():
        words = f"{s.words} Write {s.values}.".replace("`", "")
        comment = textwrap.fill(words, 100, initial_indent="# ", subsequent_indent="# ")
        yield f"\n{comment}\n# {s.name} = {as_toml(s)}\n"


def as_toml(setting):
    if bool in setting.natural and setting.default:
        return {"yes": "true", "no": "false"}[setting.default]
    bare = setting.natural and re.fullmatch(r"[\d.]+", setting.default)
    return setting.default if bare else json.dumps(setting.default)


def test_the_file_of_all_settings_is_made_from_the_table():
    if os.environ.get("REGENERATE_GOLDEN"):
        FILE.write_text("".join(example()))
    else:
        assert FILE.read_text() == "".join(example())


def test_each_line_of_the_file_of_all_settings_is_its_default(tmp_path):
    path = tmp_path / "config.toml"
    text, count = re.subn(r"(?m)^# (\w+ = )", r"\1", FILE.read_text())
    path.write_text(text)
    assert count == len(SETTINGS)
    environment = {"HOME": "/home/p"}
    found = load_config({"AGENT_CONFIG": str(path), **environment}, {})
    assert found == load_config({"AGENT_CONFIG": "", **environment}, {})
