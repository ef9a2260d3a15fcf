"""What an ONNX graph may contain, decided on its bytes before any runtime sees them.

A model file can be hostile: it can name other files ("external data"), call operators of other
domains, or ask for memory out of proportion to its size. This walks the protobuf wire format
itself (https://protobuf.dev/programming-guides/encoding, onnx/onnx.proto) and refuses whatever a
small feed-forward encoder does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from agent.errors import BundleError

MAX_NODES = 256
MAX_TENSORS = 512
MAX_RANK = 2
# Shape-changing operators (Concat, Expand, Tile, ConstantOfShape...) are left out on purpose:
# a few bytes of them ask for any amount of memory.
OPERATORS = frozenset(
    "Gemm MatMul Add Sub Mul Div Relu LeakyRelu Elu Selu Gelu Erf Tanh Sigmoid Softplus HardSwish "
    "HardSigmoid Clip Min Max Abs Neg Sqrt Exp Log Pow Reciprocal LayerNormalization "
    "BatchNormalization ReduceMean Identity Cast Constant Flatten Mish Swish".split()
)
_DOMAINS = (b"", b"ai.onnx")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR = 5
_ATTRIBUTE_REFUSED = {6: "a subgraph", 11: "subgraphs", 10: "tensor lists", 22: "sparse tensors",
                      23: "sparse tensors", 14: "types", 15: "types"}  # fmt: skip
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14

Field = tuple[int, int, int, bytes]  # number, wire type, value of a varint, content of bytes


def check_model(content: bytes) -> None:
    """Accept a small feed-forward graph that refers to nothing outside itself.

    Raises:
        BundleError: it is no ONNX model, or it holds something an encoder does not need.
    """
    graphs = []
    for number, wire, _, inner in _fields(content):
        if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            _refuse("it holds functions or training information")
        if number == _MODEL_OPSET and wire == _BYTES:
            _check_domain(_text(inner, 1))
        if number == _MODEL_GRAPH and wire == _BYTES:
            graphs.append(inner)
    if len(graphs) != 1:
        _refuse("it is not an ONNX model with one graph")
    _check_graph(graphs[0])


def _refuse(what: str) -> NoReturn:
    raise BundleError(
        f"the bundle's encoder.onnx cannot be used: {what}",
        hint="Install the bundle again, or use the one that came with the agent.",
    )


def _check_graph(graph: bytes) -> None:
    nodes = tensors = 0
    for number, wire, _, inner in _fields(graph):
        if number == _GRAPH_SPARSE:
            _refuse("it holds sparse tensors")
        if wire != _BYTES:
            continue
        if number == _GRAPH_NODE:
            nodes += 1
            _check_node(inner)
        elif number == _GRAPH_INITIALIZER:
            tensors += 1
            _check_tensor(inner)
        if nodes > MAX_NODES or tensors > MAX_TENSORS:
            _refuse(f"it has more than {MAX_NODES} nodes or {MAX_TENSORS} tensors")
    if not nodes:
        _refuse("its graph is empty")


def _check_node(node: bytes) -> None:
    operator = _text(node, _NODE_OP).decode("ascii", "replace")
    if operator not in OPERATORS:
        _refuse(f"the operator {operator[:40]!r} is not one an encoder needs")
    _check_domain(_text(node, _NODE_DOMAIN))
    for number, wire, _, inner in _fields(node):
        if number == _NODE_ATTRIBUTE and wire == _BYTES:
            for part, part_wire, _, value in _fields(inner):
                if part in _ATTRIBUTE_REFUSED:
                    _refuse(f"{operator} has {_ATTRIBUTE_REFUSED[part]} in an attribute")
                if part == _ATTRIBUTE_TENSOR and part_wire == _BYTES:
                    _check_tensor(value)


def _check_tensor(tensor: bytes) -> None:
    rank = 0
    for number, wire, value, inner in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value):
            _refuse("a tensor's data is outside the file")
        if number == _TENSOR_DIMS:  # packed or one by one
            rank += sum(byte < 0x80 for byte in inner) if wire == _BYTES else 1
    if rank > MAX_RANK:
        _refuse(f"a tensor has more than {MAX_RANK} dimensions")


def _check_domain(domain: bytes) -> None:
    if domain not in _DOMAINS:
        _refuse(f"the operator domain {domain[:40].decode('ascii', 'replace')!r} is not ONNX's own")


def _text(message: bytes, wanted: int) -> bytes:
    """The last value of a string field, as protobuf reads it; empty where there is none."""
    out = b""
    for number, wire, _, inner in _fields(message):
        if number == wanted and wire == _BYTES:
            out = inner
    return out


def _fields(message: bytes) -> Iterator[Field]:
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        value, inner = 0, b""
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, at = _varint(message, at)
            inner = message[at : at + length]
            at += length
        else:
            _refuse("it is not an ONNX model")
        if at > end or not number:
            _refuse("it is cut short or not an ONNX model")
        yield number, wire, value, inner


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for k, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    _refuse("it is cut short or not an ONNX model")
