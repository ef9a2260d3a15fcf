from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from agent.bundle.bundle import load_bundle
from agent.bundle.encoder import Encoder, golden_difference
from agent.errors import BundleError
from agent.loopnest.features.vector import FEATURES
from tests.agent.bundle.bundles_made import EMBEDDING, WEIGHTS, encoder_bytes, write_bundle


def loaded(tmp_path, **options):
    return load_bundle(write_bundle(tmp_path / "b", **options))


def spoiled(tmp_path, **options):
    return loaded(tmp_path, encoder=encoder_bytes(**options))


def test_features_become_embeddings(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, len(FEATURES))).astype(np.float32) * 0.01
    found = Encoder(loaded(tmp_path)).embed(rows)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.tanh(rows @ WEIGHTS), abs=1e-5)


def test_no_rows_and_many_rows_are_embedded(tmp_path):
    encoder = Encoder(loaded(tmp_path))
    assert encoder.embed(np.zeros((0, len(FEATURES)), np.float32)).shape == (0, EMBEDDING)
    assert encoder.embed(np.zeros((20_000, len(FEATURES)), np.float32)).shape == (20_000, EMBEDDING)


def test_the_self_test_compares_the_golden_rows(tmp_path):
    bundle = loaded(tmp_path)
    assert golden_difference(bundle, Encoder(bundle)) < 1e-5
    rows, embedding = bundle.golden
    off = replace(bundle, golden=(rows, [[x + 0.01 for x in row] for row in embedding]))
    with pytest.raises(BundleError, match="golden"):
        golden_difference(off, Encoder(off))


def test_a_bundle_without_golden_rows_passes_its_self_test(tmp_path):
    bundle = replace(loaded(tmp_path), golden=([], []))
    assert golden_difference(bundle, Encoder(bundle)) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"input": "x", "nodes": [helper.make_node("MatMul", ["x", "w"], ["embedding"])]},
        {"output": "y", "nodes": [helper.make_node("MatMul", ["features", "w"], ["y"])]},
        {"batch": 1},
    ],
)
def test_other_inputs_or_outputs_are_refused(tmp_path, options):
    with pytest.raises(BundleError, match="expected"):
        Encoder(spoiled(tmp_path, **options))


def test_an_encoder_for_other_widths_is_refused(tmp_path):
    weights = [numpy_helper.from_array(WEIGHTS[:-1], "w")]
    with pytest.raises(BundleError, match="expected"):
        Encoder(spoiled(tmp_path, tensors=weights, features=len(FEATURES) - 1))
    with pytest.raises(BundleError, match="expected"):
        Encoder(replace(loaded(tmp_path), embedding=EMBEDDING + 1))


def test_a_graph_that_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(BundleError, match="onnxruntime"):
        Encoder(replace(loaded(tmp_path), encoder=encoder_bytes(tensors=[])))


def test_a_graph_that_gives_no_numbers_is_refused(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("Log", ["h"], ["embedding"]),
    ]
    encoder = Encoder(spoiled(tmp_path, nodes=nodes))
    with pytest.raises(BundleError, match="no numbers"):
        encoder.embed(np.zeros((1, len(FEATURES)), np.float32))


def test_rows_of_another_width_are_refused(tmp_path):
    with pytest.raises(BundleError, match="onnxruntime"):
        Encoder(loaded(tmp_path)).embed(np.zeros((1, 3), np.float32))
