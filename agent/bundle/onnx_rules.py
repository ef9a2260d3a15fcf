"""What an ONNX graph may contain, decided on its bytes before any runtime sees them.

A model file can be hostile: it can name other files ("external data"), call operators of other
domains, or ask for memory out of proportion to its size. This reads the few fields of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) that a small feed-forward encoder needs,
and refuses the rest: operators, attributes and types that are not listed, tensors whose data is not
in the file byte for byte. What the graph then computes is looked at in ``onnx_shapes``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from agent.bundle.onnx_shapes import MAX_WIDTH, Graph, Node, check_rows
from agent.bundle.onnx_wire import Field, Message, read, refuse

MAX_NODES = 256
MAX_TENSORS = 512
MAX_RANK = 2
MAX_INPUTS = 8  # of a node; BatchNormalization has five
# In between, operators and attributes mean what is assumed here (older ones broadcast otherwise).
OPSETS = range(13, 64)
FLOAT = 1  # TensorProto.DataType
_FLOAT, _INT, _STRING, _TENSOR = 1, 2, 3, 4  # AttributeProto.AttributeType

# Operators and, for each attribute, the values it may have ("float": any finite one). Left out on
# purpose: what changes a shape (Concat, Expand, Tile, ConstantOfShape, Reshape...), as a few bytes
# of it ask for any amount of memory; what reduces or transposes, as it may mix rows; Cast, as there
# is one type only. Constant's other attributes (lists, strings, sparse) are ways to say the same.
_ALPHA_BETA: Mapping[str, Any] = {"alpha": "float", "beta": "float"}
_PLAIN = (
    "MatMul Add Sub Mul Div Pow Min Max Clip Relu HardSwish Erf Tanh Sigmoid Softplus Abs Neg Sqrt "
    "Exp Log Reciprocal Identity Mish"
).split()
OPERATORS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {name: {} for name in _PLAIN}
    | {name: {"alpha": "float"} for name in ("LeakyRelu", "Elu", "Swish")}
    | {
        "Selu": {"alpha": "float", "gamma": "float"},
        "HardSigmoid": _ALPHA_BETA,
        "Gelu": {"approximate": (b"none", b"tanh")},
        # transA, another axis and training would make a row's embedding depend on other rows.
        "Gemm": {**_ALPHA_BETA, "transA": (0,), "transB": (0, 1)},
        "LayerNormalization": {"axis": (-1, 1), "epsilon": "float", "stash_type": (1,)},
        "BatchNormalization": {"epsilon": "float", "momentum": "float", "training_mode": (0,)},
        "Constant": {"value": "tensor"},
    }
)
_OUTSIDE = "a tensor whose data is outside the file"
_SUBGRAPH, _FUNCTIONS = "a subgraph in an attribute", "functions or training information"
_TENSOR_MESSAGE = Message(
    "TensorProto",
    {
        1: Field("dimensions", "int", MAX_RANK),
        2: Field("type", "int"),
        8: Field("name", "text"),
        9: Field("data", "bytes"),
        14: Field("location", "int"),
    },
    # The typed fields (float_data...) are ways to say the same; a segment is part of a tensor.
    {13: _OUTSIDE, 3: "a segment of a tensor", 4: "a tensor that is not raw data"},
)
_ATTRIBUTE_MESSAGE = Message(
    "AttributeProto",
    {
        1: Field("name", "text"),
        2: Field("float", "float"),
        3: Field("int", "int"),
        4: Field("string", "bytes"),
        5: Field("tensor", _TENSOR_MESSAGE),
        20: Field("type", "int"),
    },
    {6: _SUBGRAPH, 11: _SUBGRAPH, 21: "an attribute of a function"},
)
_NODE_MESSAGE = Message(
    "NodeProto",
    {
        1: Field("inputs", "text", MAX_INPUTS),
        2: Field("outputs", "text", 1),
        3: Field("name", "text"),
        4: Field("operator", "text"),
        5: Field("attributes", _ATTRIBUTE_MESSAGE, 4),
        7: Field("domain", "text"),
    },
)
_DIMENSION = Message("Dimension", {1: Field("size", "int"), 2: Field("name", "text")})
_SHAPE = Message("TensorShapeProto", {1: Field("dimensions", _DIMENSION, MAX_RANK)})
_TENSOR_TYPE = Message("TypeProto.Tensor", {1: Field("type", "int"), 2: Field("shape", _SHAPE)})
_TYPE = Message("TypeProto", {1: Field("tensor", _TENSOR_TYPE)})
_VALUE = Message("ValueInfoProto", {1: Field("name", "text"), 2: Field("type", _TYPE)})
_GRAPH_MESSAGE = Message(
    "GraphProto",
    {
        1: Field("nodes", _NODE_MESSAGE, MAX_NODES),
        2: Field("name", "text"),
        5: Field("tensors", _TENSOR_MESSAGE, MAX_TENSORS),
        11: Field("inputs", _VALUE),
        12: Field("outputs", _VALUE),
    },
    {10: "a documentation string", 13: "shapes of what is in between", 15: "sparse tensors"},
)
_OPSET = Message("OperatorSetIdProto", {1: Field("domain", "text"), 2: Field("version", "int")})
_MODEL = Message(
    "ModelProto",
    {
        1: Field("ir_version", "int"),
        2: Field("producer_name", "text"),
        3: Field("producer_version", "text"),
        4: Field("domain", "text"),
        5: Field("model_version", "int"),
        7: Field("graph", _GRAPH_MESSAGE),
        8: Field("opsets", _OPSET, 8),
    },
    {6: "a documentation string", 14: "metadata", 20: _FUNCTIONS, 25: _FUNCTIONS},
)


def check_model(content: bytes) -> Graph:
    """Accept a small feed-forward graph that refers to nothing outside itself.

    Returns:
        What it holds, read in the one way it can be read.

    Raises:
        BundleError: it is no ONNX model, or it holds something an encoder does not need.
    """
    model = read(memoryview(content), _MODEL)
    for opset in model["opsets"]:
        _check_domain(opset["domain"])
    if not model["graph"]:
        refuse("it is not an ONNX model with one graph")
    versions = [version for opset in model["opsets"] for version in opset["version"]]
    if len(model["opsets"]) != 1 or len(versions) != 1 or versions[0] not in OPSETS:
        refuse("it does not say which version of ONNX's operators it uses, or an unknown one")
    graph = _graph(model["graph"][0])
    check_rows(graph)
    return graph


def _graph(body: Mapping[str, Any]) -> Graph:
    made = [_node(node) for node in body["nodes"]]
    nodes = tuple(node for node in made if node.operator != "Constant")
    if not nodes:
        refuse("its graph is empty")
    tensors = [_tensor(tensor) for tensor in body["tensors"]]
    tensors += [(x.output, x.attributes["value"]) for x in made if x.operator == "Constant"]
    names = [name for name, _ in tensors]
    if len(set(names)) < len(names):
        refuse("two of its tensors have the same name")
    ends = [_end(body[side], side) for side in ("inputs", "outputs")]
    return Graph(nodes, dict(tensors), *ends)


def _node(node: Mapping[str, Any]) -> Node:
    operator = _only(node["operator"], "")
    if operator not in OPERATORS:
        refuse(f"the operator {operator[:40]!r} is not one an encoder needs")
    _check_domain(node["domain"])
    if len(node["outputs"]) != 1:
        refuse(f"{operator} has no output")
    attributes: dict[str, Any] = {}
    for attribute in node["attributes"]:
        name = _only(attribute["name"], "")
        allowed = OPERATORS[operator].get(name)
        if allowed is None or name in attributes:
            refuse(f"{operator} has the attribute {name[:40]!r}, or has it twice")
        attributes[name] = _attribute(attribute, allowed, f"{name!r} of {operator}")
    if operator == "Constant" and (not attributes or node["inputs"]):
        refuse("a Constant has no value")
    return Node(operator, tuple(node["inputs"]), node["outputs"][0], attributes)


def _attribute(attribute: Mapping[str, Any], allowed: Any, what: str) -> Any:
    """The one value of an attribute, of the type it says it has, and one that is allowed."""
    kinds = {"float": _FLOAT, "int": _INT, "string": _STRING, "tensor": _TENSOR}
    given = [kind for kind in kinds if attribute[kind]]
    if len(given) != 1 or attribute["type"] != [kinds[given[0]]]:
        refuse(f"{what} has no value, or more than one")
    value = attribute[given[0]][0]
    if given[0] == "int":
        value = value - 2**64 if value >= 2**63 else value
    elif given[0] == "string":
        value = bytes(value)
    fits = given[0] == allowed if isinstance(allowed, str) else value in allowed
    if not fits or (given[0] == "float" and not math.isfinite(value)):
        refuse(f"{what} has a value that an encoder does not need")
    return _tensor(value)[1] if given[0] == "tensor" else value


def _tensor(tensor: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a tensor whose numbers are all there, and all numbers."""
    if any(tensor["location"]):
        refuse(f"it holds {_OUTSIDE}")
    if tensor["type"] != [FLOAT]:
        refuse("a tensor is not of 32-bit floats")
    shape = tuple(tensor["dimensions"])
    if not all(1 <= size <= MAX_WIDTH for size in shape):
        refuse(f"a dimension of a tensor is not from 1 to {MAX_WIDTH}")
    data = _only(tensor["data"], b"")
    # Before anything of that size is made: a few bytes can say [131072, 131072], which is 64 GiB.
    if len(data) != 4 * math.prod(shape):
        refuse(f"a tensor of {math.prod(shape)} numbers has {len(data)} bytes")
    if not np.isfinite(np.frombuffer(data, "<f4")).all():
        refuse("a tensor holds something that is not a finite number")
    return _only(tensor["name"], ""), shape


def _end(values: list[Any], side: str) -> tuple[str, int]:
    """Name and width of the only input or output: float [n, width], n free."""
    types = [tensor for value in values for kind in value["type"] for tensor in kind["tensor"]]
    shapes = [shape["dimensions"] for kind in types for shape in kind["shape"]]
    if len(values) != 1 or len(shapes) != 1 or types[0]["type"] != [FLOAT]:
        refuse(f"expected one tensor of 32-bit floats in its {side}")
    widths = [size for dimension in shapes[0][1:] for size in dimension["size"]]
    free = len(shapes[0]) == 2 and not shapes[0][0]["size"] and not shapes[0][1]["name"]
    if not free or len(widths) != 1 or not 1 <= widths[0] <= MAX_WIDTH:
        refuse(f"expected [n, width] in its {side}, n free and width at most {MAX_WIDTH}")
    return _only(values[0]["name"], ""), widths[0]


def _check_domain(domain: list[str]) -> None:
    if _only(domain, "") not in ("", "ai.onnx"):
        refuse(f"the operator domain {domain[0][:40]!r} is not ONNX's own")


def _only(values: list[Any], default: Any) -> Any:
    """The value of a field that occurs at most once."""
    return values[0] if values else default
