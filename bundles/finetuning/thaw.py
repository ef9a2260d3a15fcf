"""The encoder of a bundle as networks again, to train it further: ``export.build`` read backwards.

Sizes are read from the graph; a graph that ``export.build`` would not write is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from agent.arrays import Singles
from agent.bundle.bundle import Bundle
from agent.bundle.encoder import Encoder
from agent.errors import BundleError
from agent.loopnest.features.vector import FEATURES
from bundles.training.export import TOLERANCE
from bundles.training.network import CLIP, EncoderNetwork, Encoders, Shape

FIRST = ("Sub", "Mul", "Clip", "Gemm")
BLOCK = ("LayerNormalization", "Gemm", "Relu", "Gemm", "Add")
LAST = ("LayerNormalization", "Gemm")
SUM = "Add"  # of the members' embeddings
Weights = dict[str, Singles]


def thaw(bundle: Bundle) -> Encoders:
    """The encoder of a bundle, features [n, F] to embeddings [n, E], ready to be trained.

    Raises:
        BundleError: the graph is not a network of ours, or gives other embeddings than it did.
    """
    graph = onnx.load_model_from_string(bundle.encoder).graph
    kinds = tuple(node.op_type for node in graph.node)
    members = max(1, kinds.count(FIRST[0]))
    each = (len(kinds) - members + 1) // members
    blocks = max(0, (each - len(FIRST) - len(LAST)) // len(BLOCK))
    if kinds != members * (FIRST + blocks * BLOCK + LAST) + (members - 1) * (SUM,):
        _refuse(bundle, f"its steps are {' '.join(kinds)[:200]}")
    nodes = (list(graph.node)[n * each : (n + 1) * each] for n in range(members))
    encoder = Encoders([_thawed(bundle, graph, some, blocks) for some in nodes])
    _compare(bundle, encoder)
    return encoder


def _thawed(bundle: Bundle, graph: Any, nodes: list[Any], blocks: int) -> EncoderNetwork:
    """The network that some nodes of a graph are."""
    weights = _weights(bundle, graph, nodes, _names(blocks))
    encoder = EncoderNetwork(_shape(bundle, weights, blocks))
    try:
        encoder.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    except RuntimeError as error:  # a shape that does not fit the others
        _refuse(bundle, str(error).splitlines()[-1].strip()[:200])
    return encoder


def _names(blocks: int) -> list[tuple[str, ...]]:
    """Names in the network of the constants of each step of the graph, in its order."""
    names: list[tuple[str, ...]] = [("shift",), ("scale",), ("low", "high"), _pair("enter")]
    for n in range(blocks):
        steps = [_pair(f"blocks.{n}.{part}") for part in ("norm", "up", "down")]
        names += [steps[0], steps[1], (), steps[2], ()]
    return [*names, _pair("norm"), _pair("leave")]


def _pair(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"


def _weights(bundle: Bundle, graph: Any, nodes: list[Any], names: list[tuple[str, ...]]) -> Weights:
    """The constants of nodes of a graph by their names in the network."""
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    weights: Weights = {}
    for node, wanted in zip(nodes, names, strict=True):
        found = [constants[name] for name in node.input if name in constants]
        if len(found) != len(wanted) or any(value.dtype != np.float32 for value in found):
            _refuse(bundle, f"a step {node.op_type} has {len(found)} constants")
        weights |= {name: value.copy() for name, value in zip(wanted, found, strict=True)}
    ends = [float(weights.pop(name).sum()) for name in ("low", "high")]
    if ends != [-CLIP, CLIP]:
        _refuse(bundle, f"it clips features to {ends}")
    return weights


def _shape(bundle: Bundle, weights: Weights, blocks: int) -> Shape:
    enter, leave = weights["enter.weight"], weights["leave.weight"]
    if enter.ndim != 2 or leave.ndim != 2:
        _refuse(bundle, "a layer is not a matrix")
    return Shape(len(FEATURES), 1, hidden=len(enter), blocks=blocks, embedding=len(leave))


def _compare(bundle: Bundle, encoder: Encoders) -> None:
    """The network must give what the graph gives; that the steps are wired alike is seen so."""
    rows = np.asarray(bundle.golden[0], np.float32)
    found = encoder.embed(torch.from_numpy(rows)).numpy()
    difference = float(np.abs(found - Encoder(bundle).embed(rows)).max())
    if not difference <= TOLERANCE:
        _refuse(bundle, f"as a network it differs by {difference:.1e}")


def _refuse(bundle: Bundle, what: str) -> NoReturn:
    raise BundleError(
        f"the encoder of the bundle in {bundle.path} cannot be trained further: {what}",
        "Give a bundle made by `bundles pretrain` of this version.",
    )
