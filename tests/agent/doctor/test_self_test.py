"""`agent self-test` through the real console script: real compiler, bundle and disk."""

import pytest

from agent.doctor import self_test
from agent.model.select import best_head
from agent.terminal.settings_wording import finding_blocks
from tests.conftest import agent, valid
from tests.other_user import needs_root

PARTS = ["state directory", "bundle", "measuring", "fitting", "prediction"]


def levels(body):
    return {c["check"]: c["level"] for c in body["checks"]}


def test_every_part_works_here_and_nothing_of_it_stays(tmp_path):
    ran = agent("self-test", "--json", "--state-dir", tmp_path / "s")
    body = valid(ran.json, "self-test")
    assert ran.code == 0, body
    assert levels(body) == dict.fromkeys(PARTS, "ok")
    assert list((tmp_path / "s").iterdir()) == []
    assert "testing: measuring" in ran.err
    assert finding_blocks(body)[-1] == "All is well."


def test_a_compiler_that_makes_wrong_code_is_found(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(  # the version's loop ends too early, the program as written is right
        "#!/bin/sh\n[ ! -f kernel.c ] || sed -i 's/j_t < 900/j_t < 864/' kernel.c\n"
        'exec gcc "$@"\n'
    )
    compiler.chmod(0o755)
    ran = agent("self-test", "--json", "--state-dir", tmp_path / "s", "--compiler", compiler)
    assert ran.code == 9
    (found,) = (c for c in ran.json["checks"] if c["check"] == "measuring")
    assert found["level"] == "problem"
    assert "wrong-result" in found["message"]
    assert levels(ran.json)["prediction"] == "ok"


def test_a_damaged_bundle_is_found(tmp_path, tiny_bundle):
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    (bundle / "encoder.onnx").write_bytes(b"nonsense")
    ran = agent("self-test", "--json", "--state-dir", tmp_path / "s", AGENT_BUNDLE=str(bundle))
    assert ran.code == 9
    assert levels(ran.json)["bundle"] == "problem"


@pytest.mark.parametrize("content", ["from numpy import f2py_that_is_gone", "1 / 0"])
def test_a_library_that_cannot_be_imported_is_found(tmp_path, content):
    broken = tmp_path / "libraries" / "sklearn"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(content)
    ran = agent("self-test", "--json", "--state-dir", tmp_path / "s", PYTHONPATH=str(broken.parent))
    body = valid(ran.json, "self-test")
    assert ran.code == 9
    assert levels(body) == dict.fromkeys(PARTS, "ok") | {"fitting": "problem"}
    (found,) = (c for c in body["checks"] if c["check"] == "fitting")
    assert found["advice"]


def test_every_kind_of_head_is_tried_on_the_made_up_rows():
    _, verdicts = best_head(*self_test._made_up_labels(), self_test.SEED)
    assert {v.candidate for v in verdicts} == {"ridge", "boosting"}
    assert [v for v in verdicts if v.status == "too-few-labels"] == []


@needs_root
def test_a_state_directory_that_cannot_be_written_is_found(open_place, nobody):
    place = open_place / "s"
    place.mkdir()
    ran = nobody("self-test", "--json", "--state-dir", place)
    assert ran.code == 9
    found = levels(ran.json)
    assert found["state directory"] == "problem"
    assert found["measuring"] == found["prediction"] == "ok"


@pytest.mark.parametrize("command", ["self-test", "doctor"])
def test_help_has_an_example(command):
    assert f"Example: agent {command}" in " ".join(agent(command, "--help").out.split())
