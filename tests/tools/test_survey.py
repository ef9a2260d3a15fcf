"""What is kept of public C: shares of what nests are made of, never their text."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent.errors import Exit
from agent.loopnest.features.vector import FEATURES
from tools.survey.__main__ import main
from tools.survey.tell import tell_apart

CODE = """
#include "made_by_configure.h"
void scale_secretly(int n, const float *x, float *y) {
    for (int i = 0; i < n; i++) y[i] = 2.0f * x[i];
}
void too_small(float *y) { for (int i = 0; i < 3; i++) y[i] = 0.0f; }
void unknown(int n, float *y) { for (int i = 0; i < n; i++) y[i] = elsewhere(i); }
"""


@pytest.fixture
def checkouts(tmp_path: Path) -> Path:
    folder = tmp_path / "checkouts" / "karpathy+llm.c"
    folder.mkdir(parents=True)
    (folder / "a.c").write_text("float elsewhere(int i);\n" + CODE)
    return folder.parent


def test_nests_are_counted_and_nothing_of_their_text_is_kept(
    checkouts: Path, tmp_path: Path
) -> None:
    rows, out = tmp_path / "rows.npz", tmp_path / "survey.json"
    asked = ["read", str(checkouts), "--rows", str(rows), "--out", str(out), "--processes", "1"]
    assert main(asked) == Exit.OK
    told = json.loads(out.read_text())
    (about,) = told["repositories"]
    assert (about["nests_read"], about["nests_refused"], about["nests_used"]) == (2, 1, 1)
    assert about["licence"] == "MIT"
    assert told["traits"]["loops around a statement"] == {"1": 1.0}
    assert told["traits"]["elements moved by the innermost loop"] == {"1": 1.0}
    assert np.load(rows)["features"].shape == (1, len(FEATURES))
    for file in (rows, out):
        assert b"scale_secretly" not in file.read_bytes()


def test_a_folder_without_known_repositories_is_refused(tmp_path: Path) -> None:
    asked = ["read", str(tmp_path), "--rows", str(tmp_path / "r"), "--out", str(tmp_path / "o")]
    assert main(asked) != Exit.OK


def test_what_differs_is_told_apart_and_what_does_not_is_not() -> None:
    rng = np.random.default_rng(0)
    repository = np.array([f"r{n % 10}" for n in range(200)])
    alike = rng.normal(size=(400, 3)).astype(np.float32)
    shifted = alike[200:] + np.array([0, 4, 0], np.float32)
    found = tell_apart(alike[:200], shifted, repository, ("a", "b", "c"))
    assert found.auc > 0.95
    assert found.apart[0][0] == "b"
    assert tell_apart(alike[:200], alike[200:], repository, ("a", "b", "c")).auc < 0.65
