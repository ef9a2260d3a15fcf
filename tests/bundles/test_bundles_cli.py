import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent.bundle.bundle import default_bundle
from agent.errors import Exit
from agent.kernels.fixed_set import SET, kernels
from bundles import cli


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["bundles", *arguments])
    code = cli.main()
    out, err = capsys.readouterr()
    return code, out, err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    probe = (
        "import sys; sys.argv = ['bundles', '--help']\n"
        "from bundles.cli import main\n"
        "code = main()\n"
        "heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'islpy'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("pretrain", "inspect", "design"))


@pytest.mark.parametrize("command", ["pretrain", "inspect", "design"])
def test_every_command_has_help_with_an_example(capsys, monkeypatch, command: str) -> None:
    code, out, _ = run(capsys, monkeypatch, command, "--help")
    assert code == Exit.OK
    assert f"bundles {command}" in out
    assert "Example" in out


def test_inspect_shows_the_default_bundle(capsys, monkeypatch) -> None:
    code, out, _ = run(capsys, monkeypatch, "inspect", str(default_bundle()))
    assert code == Exit.OK
    for word in ("Apache-2.0", "digest", "recipe", "references", "bundle_fixed 48", "median 48"):
        assert word in out


def test_inspect_as_json_holds_provenance_and_evaluation(capsys, monkeypatch) -> None:
    code, out, _ = run(capsys, monkeypatch, "inspect", str(default_bundle()), "--json")
    value = json.loads(out)
    assert code == Exit.OK
    assert value["name"] == "default"
    assert value["provenance"]["seeds"]
    assert value["provenance"]["evaluation"]["bundle_fixed 48"]["log_error"] > 0
    assert value["self_test"]["largest_difference"] <= 1e-4


def test_inspect_of_what_is_no_bundle_is_an_error_with_a_hint(
    capsys, monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text("{")
    code, out, err = run(capsys, monkeypatch, "inspect", str(tmp_path))
    assert code == Exit.USAGE
    assert out == ""
    assert "manifest.json is not JSON" in err
    assert "Traceback" not in err


def test_an_unknown_option_is_a_usage_error(capsys, monkeypatch) -> None:
    code, _, err = run(capsys, monkeypatch, "pretrain", "--fast")
    assert code == Exit.USAGE
    assert "--help" in err


def test_pretrain_without_torch_says_what_to_install(tmp_path: Path) -> None:
    probe = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['bundles', 'pretrain', '--out', {str(tmp_path / 'b')!r}]\n"
        "from bundles.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == Exit.USAGE
    assert "needs torch, which is not installed" in done.stderr
    assert "pip install torch==2.13.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_design_rewrites_the_variants_of_a_set(capsys, monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_text(SET.read_text())
    arguments = ("design", "--count", "41", "--candidates", "5", "--out", str(path), "--json")
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == Exit.OK
    written = tomllib.loads(path.read_text())
    assert written["variant"] == json.loads(out)
    assert {v["kernel"] for v in written["variant"]} == {k.name for k in kernels()}
    assert written["kernel"] == tomllib.loads(SET.read_text())["kernel"]
    assert "candidates" in err
