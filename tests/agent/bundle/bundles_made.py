"""Bundles for tests: a tiny real ONNX encoder, a manifest, and ways to spoil them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION

EMBEDDING, FEATURE_COUNT = 4, len(FEATURES)
WEIGHTS = np.linspace(-1, 1, len(FEATURES) * EMBEDDING, dtype=np.float32).reshape(-1, EMBEDDING)


def graph(
    nodes=None, tensors=None, features=FEATURE_COUNT, embedding=EMBEDDING, batch="n", **names
):
    """An ONNX model; by default tanh(features @ WEIGHTS)."""
    nodes = nodes or [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["embedding"]),
    ]
    tensors = [numpy_helper.from_array(WEIGHTS, "w")] if tensors is None else tensors
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "encoder",
        [value(names.get("input", "features"), TensorProto.FLOAT, [batch, features])],
        [value(names.get("output", "embedding"), TensorProto.FLOAT, [batch, embedding])],
        tensors,
    )
    opsets = names.get("opsets", [helper.make_opsetid("", 17)])
    model = helper.make_model(made, opset_imports=opsets)
    model.ir_version = 8
    return model


def encoder_bytes(**options) -> bytes:
    return graph(**options).SerializeToString()


def as_protobuf_reads(content: bytes) -> tuple:
    """Nodes, shapes of weights, names and widths of the ends: what a checked ``Graph`` says."""
    read = onnx.load_from_string(content).graph
    constants = {
        node.output[0]: node.attribute[0].t for node in read.node if node.op_type == "Constant"
    }
    nodes = [
        (n.op_type, tuple(n.input), n.output[0],
         {a.name: helper.get_attribute_value(a) for a in n.attribute})
        for n in read.node if n.op_type != "Constant"
    ]  # fmt: skip
    weights = {tensor.name: tensor for tensor in read.initializer} | constants
    ends = [(end.name, end.type.tensor_type.shape.dim[1].dim_value)
            for side in (read.input, read.output) for end in side]  # fmt: skip
    return nodes, {name: tuple(weight.dims) for name, weight in weights.items()}, *ends


def golden() -> dict:
    rows = np.linspace(-0.01, 0.01, 2 * len(FEATURES), dtype=np.float32).reshape(2, -1)
    return {"features": rows.tolist(), "embedding": np.tanh(rows @ WEIGHTS).tolist()}


def manifest_of(made: dict[str, bytes], **changes) -> dict:
    manifest = {
        "schema": 1,
        "name": "test",
        "version": "1",
        "created": "2026-01-01T00:00:00Z",
        "features_version": FEATURES_VERSION,
        "features": list(FEATURES),
        "embedding": EMBEDDING,
        "files": {
            n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in made.items()
        },
        "licence": "Apache-2.0",
        "provenance": {"seeds": [1]},
        "golden": golden(),
    }
    return manifest | changes


def write_bundle(path: Path, encoder: bytes | None = None, prior: bytes = b"{}", **changes) -> Path:
    """A bundle in ``path``, digests right, the manifest changed as asked."""
    path.mkdir(exist_ok=True)
    files = {"encoder.onnx": encoder or encoder_bytes(), "prior.json": prior}
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / "manifest.json").write_text(json.dumps(manifest_of(files, **changes)))
    return path


__all__ = ["EMBEDDING", "encoder_bytes", "golden", "graph", "manifest_of", "onnx", "write_bundle"]
