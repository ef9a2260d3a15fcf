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
from typing import Literal, TypeAlias

import numpy as np

from agent.bundle.onnx_shapes import (
    MAX_WIDTH,
    AttributeValue,
    OnnxGraph,
    OnnxNode,
    Shape,
    check_rows,
)
from agent.bundle.onnx_wire import (
    FieldSchema,
    FieldValue,
    Message,
    MessageSchema,
    read_message,
    refuse,
)

MAX_NODES = 256
MAX_TENSORS = 512
MAX_RANK = 2
MAX_INPUTS = 8  # of a node; BatchNormalization has five
# In between, operators and attributes mean what is assumed here (older ones broadcast otherwise).
OPSETS = range(13, 64)
FLOAT = 1  # TensorProto.DataType
_ATTRIBUTE_TYPES = {"float": 1, "int": 2, "string": 3, "tensor": 4}  # AttributeProto.AttributeType

Allowed: TypeAlias = Literal["float", "tensor"] | tuple[int | bytes, ...]

# Operators and, for each attribute, the values it may have ("float": any finite one). Left out on
# purpose: what changes a shape (Concat, Expand, Tile, ConstantOfShape, Reshape...), as a few bytes
# of it ask for any amount of memory; what reduces or transposes, as it may mix rows; Cast, as there
# is one type only. Constant's other attributes (lists, strings, sparse) are ways to say the same.
_ALPHA_BETA: Mapping[str, Allowed] = {"alpha": "float", "beta": "float"}
_PLAIN = (
    "MatMul Add Sub Mul Div Pow Min Max Clip Relu HardSwish Erf Tanh Sigmoid Softplus Abs Neg Sqrt "
    "Exp Log Reciprocal Identity Mish"
).split()
_OWN: Mapping[str, Mapping[str, Allowed]] = {
    "Selu": {"alpha": "float", "gamma": "float"},
    "HardSigmoid": _ALPHA_BETA,
    "Gelu": {"approximate": (b"none", b"tanh")},
    # transA, another axis and training would make a row's embedding depend on other rows.
    "Gemm": {**_ALPHA_BETA, "transA": (0,), "transB": (0, 1)},
    "LayerNormalization": {"axis": (-1, 1), "epsilon": "float", "stash_type": (1,)},
    "BatchNormalization": {"epsilon": "float", "momentum": "float", "training_mode": (0,)},
    "Constant": {"value": "tensor"},
}
_NO_ATTRIBUTES: Mapping[str, Allowed] = MappingProxyType({})
_ALPHA: Mapping[str, Allowed] = {"alpha": "float"}
OPERATORS: Mapping[str, Mapping[str, Allowed]] = MappingProxyType(
    dict.fromkeys(_PLAIN, _NO_ATTRIBUTES)
    | dict.fromkeys(("LeakyRelu", "Elu", "Swish"), _ALPHA)
    | {**_OWN}
)
_OUTSIDE = "a tensor whose data is outside the file"
_SUBGRAPH, _FUNCTIONS = "a subgraph in an attribute", "functions or training information"
_TENSOR_MESSAGE = MessageSchema(
    "TensorProto",
    {
        1: FieldSchema("dimensions", "int", MAX_RANK),
        2: FieldSchema("type", "int"),
        8: FieldSchema("name", "text"),
        9: FieldSchema("data", "bytes"),
        14: FieldSchema("location", "int"),
    },
    # The typed fields (float_data...) are ways to say the same; a segment is part of a tensor.
    {13: _OUTSIDE, 3: "a segment of a tensor", 4: "a tensor that is not raw data"},
)
_ATTRIBUTE_MESSAGE = MessageSchema(
    "AttributeProto",
    {
        1: FieldSchema("name", "text"),
        2: FieldSchema("float", "float"),
        3: FieldSchema("int", "int"),
        4: FieldSchema("string", "bytes"),
        5: FieldSchema("tensor", _TENSOR_MESSAGE),
        20: FieldSchema("type", "int"),
    },
    {6: _SUBGRAPH, 11: _SUBGRAPH, 21: "an attribute of a function"},
)
_NODE_MESSAGE = MessageSchema(
    "NodeProto",
    {
        1: FieldSchema("inputs", "text", MAX_INPUTS),
        2: FieldSchema("outputs", "text", 1),
        3: FieldSchema("name", "text"),
        4: FieldSchema("operator", "text"),
        5: FieldSchema("attributes", _ATTRIBUTE_MESSAGE, 4),
        7: FieldSchema("domain", "text"),
    },
)
_DIMENSION = MessageSchema(
    "Dimension", {1: FieldSchema("size", "int"), 2: FieldSchema("name", "text")}
)
_SHAPE = MessageSchema("TensorShapeProto", {1: FieldSchema("dimensions", _DIMENSION, MAX_RANK)})
_TENSOR_TYPE = MessageSchema(
    "TypeProto.Tensor", {1: FieldSchema("type", "int"), 2: FieldSchema("shape", _SHAPE)}
)
_TYPE = MessageSchema("TypeProto", {1: FieldSchema("tensor", _TENSOR_TYPE)})
_VALUE = MessageSchema(
    "ValueInfoProto", {1: FieldSchema("name", "text"), 2: FieldSchema("type", _TYPE)}
)
_GRAPH_MESSAGE = MessageSchema(
    "GraphProto",
    {
        1: FieldSchema("nodes", _NODE_MESSAGE, MAX_NODES),
        2: FieldSchema("name", "text"),
        5: FieldSchema("tensors", _TENSOR_MESSAGE, MAX_TENSORS),
        11: FieldSchema("inputs", _VALUE),
        12: FieldSchema("outputs", _VALUE),
    },
    {10: "a documentation string", 13: "shapes of what is in between", 15: "sparse tensors"},
)
_OPSET = MessageSchema(
    "OperatorSetIdProto", {1: FieldSchema("domain", "text"), 2: FieldSchema("version", "int")}
)
_MODEL = MessageSchema(
    "ModelProto",
    {
        1: FieldSchema("ir_version", "int"),
        2: FieldSchema("producer_name", "text"),
        3: FieldSchema("producer_version", "text"),
        4: FieldSchema("domain", "text"),
        5: FieldSchema("model_version", "int"),
        7: FieldSchema("graph", _GRAPH_MESSAGE),
        8: FieldSchema("opsets", _OPSET, 8),
    },
    {6: "a documentation string", 14: "metadata", 20: _FUNCTIONS, 25: _FUNCTIONS},
)


def check_model(content: bytes) -> OnnxGraph:
    """Accept a small feed-forward graph that refers to nothing outside itself.

    Returns:
        What it holds, read in the one way it can be read.

    Raises:
        BundleError: it is no ONNX model, or it holds something an encoder does not need.
    """
    model = read_message(memoryview(content), _MODEL)
    opsets, graphs = model.all("opsets", Message), model.all("graph", Message)
    for opset in opsets:
        _check_domain(opset)
    if not graphs:
        refuse("it is not an ONNX model with one graph")
    versions = [version for opset in opsets for version in opset.all("version", int)]
    if len(opsets) != 1 or len(versions) != 1 or versions[0] not in OPSETS:
        refuse("it does not say which version of ONNX's operators it uses, or an unknown one")
    graph = _graph(graphs[0])
    check_rows(graph)
    return graph


def _graph(body: Message) -> OnnxGraph:
    made = [_node(node) for node in body.all("nodes", Message)]
    nodes = tuple(node for node in made if node.operator != "Constant")
    if not nodes:
        refuse("its graph is empty")
    tensors = [_tensor(tensor) for tensor in body.all("tensors", Message)]
    for node in made:  # the value of a Constant is the shape of a tensor
        tensors += [(node.output, x) for x in node.attributes.values() if isinstance(x, tuple)]
    names = [name for name, _ in tensors]
    if len(set(names)) < len(names):
        refuse("two of its tensors have the same name")
    ends = [_end(body.all(side, Message), side) for side in ("inputs", "outputs")]
    return OnnxGraph(nodes, dict(tensors), *ends)


def _node(node: Message) -> OnnxNode:
    operator = node.only("operator", "")
    if operator not in OPERATORS:
        refuse(f"the operator {operator[:40]!r} is not one an encoder needs")
    _check_domain(node)
    inputs, outputs = node.all("inputs", str), node.all("outputs", str)
    if len(outputs) != 1:
        refuse(f"{operator} has no output")
    attributes: dict[str, AttributeValue] = {}
    for attribute in node.all("attributes", Message):
        name = attribute.only("name", "")
        allowed = OPERATORS[operator].get(name)
        if allowed is None or name in attributes:
            refuse(f"{operator} has the attribute {name[:40]!r}, or has it twice")
        attributes[name] = _attribute(attribute, allowed, f"{name!r} of {operator}")
    if operator == "Constant" and (not attributes or inputs):
        refuse("a Constant has no value")
    return OnnxNode(operator, tuple(inputs), outputs[0], attributes)


def _attribute(attribute: Message, allowed: Allowed, what: str) -> AttributeValue:
    """The one value of an attribute, of the type it says it has, and one that is allowed."""
    given = [kind for kind in _ATTRIBUTE_TYPES if attribute.values[kind]]
    if len(given) != 1 or attribute.all("type", int) != [_ATTRIBUTE_TYPES[given[0]]]:
        refuse(f"{what} has no value, or more than one")
    value: FieldValue | bytes = attribute.values[given[0]][0]
    if isinstance(value, int):
        value = value - 2**64 if value >= 2**63 else value
    elif isinstance(value, memoryview):
        value = bytes(value)
    fits = given[0] == allowed if isinstance(allowed, str) else value in allowed
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, str) or not (fits and finite):  # no attribute's value is a name
        refuse(f"{what} has a value that an encoder does not need")
    return _tensor(value)[1] if isinstance(value, Message) else value


def _tensor(tensor: Message) -> tuple[str, Shape]:
    """Name and shape of a tensor whose numbers are all there, and all numbers."""
    if any(tensor.all("location", int)):
        refuse(f"it holds {_OUTSIDE}")
    if tensor.all("type", int) != [FLOAT]:
        refuse("a tensor is not of 32-bit floats")
    shape = tuple(tensor.all("dimensions", int))
    if not all(1 <= size <= MAX_WIDTH for size in shape):
        refuse(f"a dimension of a tensor is not from 1 to {MAX_WIDTH}")
    data = tensor.only("data", memoryview(b""))
    # Before anything of that size is made: a few bytes can say [131072, 131072], which is 64 GiB.
    if len(data) != 4 * math.prod(shape):
        refuse(f"a tensor of {math.prod(shape)} numbers has {len(data)} bytes")
    if not np.isfinite(np.frombuffer(data, "<f4")).all():
        refuse("a tensor holds something that is not a finite number")
    return tensor.only("name", ""), shape


def _end(values: list[Message], side: str) -> tuple[str, int]:
    """Name and width of the only input or output: float [n, width], n free."""
    types = [
        x
        for value in values
        for kind in value.all("type", Message)
        for x in kind.all("tensor", Message)
    ]
    shapes = [x.all("dimensions", Message) for kind in types for x in kind.all("shape", Message)]
    if len(values) != 1 or len(shapes) != 1 or types[0].all("type", int) != [FLOAT]:
        refuse(f"expected one tensor of 32-bit floats in its {side}")
    widths = [size for dimension in shapes[0][1:] for size in dimension.all("size", int)]
    free = len(shapes[0]) == 2 and not (shapes[0][0].values["size"] or shapes[0][1].values["name"])
    if not free or len(widths) != 1 or not 1 <= widths[0] <= MAX_WIDTH:
        refuse(f"expected [n, width] in its {side}, n free and width at most {MAX_WIDTH}")
    return values[0].only("name", ""), widths[0]


def _check_domain(holder: Message) -> None:
    """Refuse a node or a set of operators of a domain other than ONNX's own."""
    domain = holder.only("domain", "")
    if domain not in ("", "ai.onnx"):
        refuse(f"the operator domain {domain[:40]!r} is not ONNX's own")
