"""docs/reference/configuration.md is made from the table of settings.

REGENERATE_GOLDEN=1 ./check -k reference_of_the_configuration   writes it again.
"""

import os
from pathlib import Path

from agent.settings.config import SETTINGS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"
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
    from agent.settings.resolve import load_config

    example = PAGE.read_text().split("```toml\n")[1].split("```")[0]
    path = tmp_path / "config.toml"
    path.write_text(example)
    found = load_config({"AGENT_CONFIG": str(path), "HOME": "/home/p"}, {})
    assert found.repository == "https://bundles.example.org"
    assert (found.budget_s, found.on_battery) == (60.0, False)
