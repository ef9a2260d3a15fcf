"""Write a bundle: the ONNX graph, the prior, the manifest; checked before it appears.

The graph is built by hand from the weights: a dozen operators in the default domain, no exporter
in between. What is written must load as any bundle must, and agree with torch within ``TOLERANCE``
on real features.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import bundles
from agent.arrays import Floats, Singles
from agent.bundle.bundle import ENCODER, MANIFEST, PRIOR, SCHEMA, load_bundle
from agent.bundle.encoder import INPUT, OUTPUT, Encoder, golden_difference
from agent.errors import BundleError
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION
from agent.model.prior import Prior
from bundles.training.network import CLIP, EncoderNetwork, Encoders

TOLERANCE = 1e-4
OPSET, IR_VERSION = 17, 8
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Export:
    """What goes into a bundle.

    Attributes:
        encoder: the trained encoders.
        prior: in terms of their embedding.
        golden: [g, F] features of real programs, kept with their embeddings as a self-test.
        provenance: seeds, recipe, training log, evaluation.
        name, version: of the bundle; without a version, the moment it is made.
        taught: marks of loops that labels taught it (``features.vector.MARKS``).
    """

    encoder: Encoders
    prior: Prior
    golden: Singles
    provenance: Mapping[str, object]
    name: str = "default"
    version: str = ""
    taught: tuple[str, ...] = ()


class _Graph:
    """Nodes and weights in the making; a node continues from the one before, or from the input."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.last = INPUT

    def constant(self, value: Floats) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: float) -> str:
        output = f"x{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [output])
        node.attribute.extend(helper.make_attribute(k, v) for k, v in sorted(attributes.items()))
        self.nodes.append(node)
        self.last = output
        return output


def _numbers(tensor: torch.Tensor) -> Singles:
    return np.asarray(tensor.detach().numpy(), np.float32)


def _linear(graph: _Graph, layer: torch.nn.Linear) -> str:
    weight, bias = graph.constant(_numbers(layer.weight)), graph.constant(_numbers(layer.bias))
    return graph.add("Gemm", graph.last, weight, bias, transB=1)


def _norm(graph: _Graph, layer: torch.nn.LayerNorm) -> str:
    scale, shift = graph.constant(_numbers(layer.weight)), graph.constant(_numbers(layer.bias))
    return graph.add("LayerNormalization", graph.last, scale, shift, axis=-1, epsilon=layer.eps)


def build(encoder: Encoders) -> bytes:
    """The ONNX model: [n, F] features to [n, E] embeddings, n free.

    Members stand one after the other, and are added up behind the last: operators that put rows
    side by side are none that the agent takes from a bundle.
    """
    graph = _Graph()
    ends = [_member(graph, member) for member in encoder.networks]
    for end in ends[:-1]:
        graph.add("Add", graph.last, end)
    graph.nodes[-1].output[0] = OUTPUT
    return _model(graph, encoder.networks[0].leave.out_features)


def _member(graph: _Graph, encoder: EncoderNetwork) -> str:
    """Add an encoder; the name of its embedding."""
    graph.last = INPUT
    shift, scale = encoder.get_buffer("shift"), encoder.get_buffer("scale")
    graph.add("Sub", graph.last, graph.constant(_numbers(shift)))
    graph.add("Mul", graph.last, graph.constant(_numbers(scale)))
    low, high = graph.constant(np.array(-CLIP)), graph.constant(np.array(CLIP))
    graph.add("Clip", graph.last, low, high)
    _linear(graph, encoder.enter)
    for block in encoder.blocks:
        before = graph.last
        _norm(graph, block.norm)  # type: ignore[arg-type]
        _linear(graph, block.up)  # type: ignore[arg-type]
        graph.add("Relu", graph.last)
        _linear(graph, block.down)  # type: ignore[arg-type]
        graph.add("Add", graph.last, before)
    _norm(graph, encoder.norm)
    return _linear(graph, encoder.leave)


def _model(graph: _Graph, width: int) -> bytes:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in ((INPUT, len(FEATURES)), (OUTPUT, width))
    ]
    body = helper.make_graph(graph.nodes, "encoder", ends[:1], ends[1:], graph.weights)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def export(content: Export, out: Path, say: Callable[[str], None]) -> dict[str, object]:
    """Write the bundle to the directory ``out``, replacing the bundle that is there.

    Raises:
        BundleError: it does not load, is too large, or differs from torch; nothing is replaced.
    """
    graph = build(content.encoder)
    golden: Singles = content.encoder.embed(torch.from_numpy(content.golden)).numpy()
    prior = json.dumps(content.prior.to_json()).encode()
    files = {ENCODER: graph, PRIOR: prior}
    manifest = _manifest(content, golden, files)
    files[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".bundle-") as staging:
        for name, data in files.items():
            (Path(staging) / name).write_bytes(data)
        say(f"parity with torch: {_parity(Path(staging), content.golden, golden):.1e}")
        _put(Path(staging), out, list(files))
    say(f"bundle in {out}: {sum(map(len, files.values())) / 2**20:.2f} MiB")
    return manifest


def _parity(path: Path, golden: Singles, expected: Singles) -> float:
    bundle = load_bundle(path)
    Prior.from_json(bundle.prior)
    runtime = Encoder(bundle)
    golden_difference(bundle, runtime)
    difference = float(np.abs(runtime.embed(golden) - expected).max())
    if difference > TOLERANCE:
        raise BundleError(f"the exported encoder differs from torch by {difference:.1e}")
    return difference


def _put(staging: Path, out: Path, names: list[str]) -> None:
    """The manifest last: a bundle cut short has digests that do not fit, and is refused."""
    try:
        out.mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(staging / name, out / f".{name}.new")
        for name in names:
            (out / f".{name}.new").replace(out / name)
    except OSError as error:
        raise BundleError(
            f"cannot write the bundle to {out}: {error.strerror}", "Choose another directory."
        ) from error


def _manifest(content: Export, golden: Singles, files: dict[str, bytes]) -> dict[str, object]:
    created = _now()
    return {
        "schema": SCHEMA,
        "name": content.name,
        "version": content.version or re.sub(r"[-:]", "", created),
        "created": created,
        "features_version": FEATURES_VERSION,
        "features": list(FEATURES),
        "embedding": int(golden.shape[1]),
        "taught": list(content.taught),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
        "licence": LICENCE,
        "provenance": content.provenance,
        "golden": {
            "features": [[_short(x) for x in row] for row in content.golden],
            "embedding": [[_short(x) for x in row] for row in golden],
        },
    }


def _short(value: np.float32) -> float:
    """The shortest decimal that is this float32."""
    return float(str(value))


def _now() -> str:
    """Now, or SOURCE_DATE_EPOCH (reproducible-builds.org) where it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        if epoch.isdigit()
        else datetime.datetime.now(datetime.UTC)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def code_version() -> str:
    """The commit the bundle was made from, ``-dirty`` with local changes; or "unknown"."""
    root = Path(bundles.__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
