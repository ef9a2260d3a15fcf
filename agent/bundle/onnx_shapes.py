"""What a graph computes, without computing it: rows in, rows out, each by itself, at what cost.

Two things cannot be seen on an operator alone. Whether a row's embedding depends on the rows beside
it: then predictions would depend on which schedules are asked about together. And what a graph
costs: [n, 1] + [4096] is [n, 4096], and weights may be used again and again. So shapes are followed
through the graph. Every value is either a constant of the file or [n, width], n rows that no
operator here lets touch; whatever is neither is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agent.bundle.onnx_wire import refuse

MAX_WIDTH = 4_096
MAX_ROW = 65_536  # numbers that all values of one row take together; the default bundle: 9,943
MAX_WORK = 4_000_000  # multiplications of one row in matrices; the default bundle: 767,424
Shape = tuple[int, ...]
AttributeValue: TypeAlias = float | int | bytes | Shape  # a shape: of the tensor it holds
Attributes: TypeAlias = Mapping[str, AttributeValue]
Operand = int | Shape | None  # rows of that width, a constant of that shape, or left out


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """An operation: ``output = operator(inputs, attributes)``."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """What a model says.

    Attributes:
        nodes: in the order they are computed; none is a Constant, those are among the tensors.
        tensors: shapes of the weights, by name.
        input: name and width of what goes in, [n, width]; ``output``: of what comes out.
    """

    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, Shape]
    input: tuple[str, int]
    output: tuple[str, int]


def check_rows(graph: OnnxGraph) -> None:
    """Accept a graph that embeds every row by itself, in bounded memory and time.

    Raises:
        BundleError: it does not fit together, may mix rows, or costs too much.
    """
    if graph.input[0] in graph.tensors:
        refuse("its input is one of its tensors too")  # then onnxruntime would not ask for it
    widths = dict([graph.input])
    work = 0
    for node in graph.nodes:
        operands = [_operand(name, widths, graph.tensors) for name in node.inputs]
        found = _RULES.get(node.operator, _each)(operands, node.attributes)
        if found is None:
            refuse(f"what {node.operator} makes {node.output[:40]!r} of is not rows and weights")
        if node.output in (*widths, *graph.tensors, ""):
            refuse(f"two of its values are called {node.output[:40]!r}, or one has no name")
        widths[node.output], cost = found
        work += cost
    if widths.get(graph.output[0]) != graph.output[1] or graph.output[0] == graph.input[0]:
        refuse("its output is not what its nodes give")
    if max(widths.values()) > MAX_WIDTH or sum(widths.values()) > MAX_ROW or work > MAX_WORK:
        refuse("it needs more memory or time for a row than an encoder does")


def _operand(name: str, widths: Mapping[str, int], tensors: Mapping[str, Shape]) -> Operand:
    if name in widths:
        return widths[name]
    if name and name not in tensors:
        refuse(f"it uses {name[:40]!r}, which nothing before makes")
    return tensors[name] if name else None


# For each operator: width and multiplications of a row of what it makes, None if it does not fit.
Found = tuple[int, int] | None


def _each(operands: list[Operand], _: Attributes) -> Found:
    """A function of every number by itself."""
    match operands:
        case [int(width)]:
            return width, 0
    return None


def _clip(operands: list[Operand], _: Attributes) -> Found:
    match operands:
        case [int(width), *bounds] if len(bounds) <= 2 and all(map(_single, bounds)):
            return width, 0
    return None


def _pairs(operands: list[Operand], _: Attributes) -> Found:
    return _broadcast(operands) if len(operands) == 2 else None


def _broadcast(operands: list[Operand], _: Attributes | None = None) -> Found:
    """Rows with rows or with one row for all: number by number, or one number for the whole row."""
    widths = []
    for operand in operands:
        if isinstance(operand, int):
            widths.append(operand)
        elif operand is None or math.prod(operand[:-1]) != 1:  # rows of its own: not one for all
            return None
        else:
            widths.append(operand[-1] if operand else 1)
    rows = any(isinstance(operand, int) for operand in operands)
    return (max(widths), 0) if rows and {*widths} <= {1, max(widths)} else None


def _matmul(operands: list[Operand], _: Attributes) -> Found:
    match operands:
        case [int(width), (int(height), int(across))] if height == width:
            return across, height * across
    return None


def _gemm(operands: list[Operand], attributes: Attributes) -> Found:
    match operands:
        case [int(width), (int(height), int(across)), *added] if len(added) <= 1:
            if attributes.get("transB"):
                height, across = across, height
            one = _broadcast([across, *added])
            if height == width and one and one[0] == across and None not in added:
                return across, height * across
    return None


def _norm(operands: list[Operand], _: Attributes) -> Found:
    """Rows, and one number for each column: scale and shift (LayerNormalization)."""
    match operands:
        case [int(width), *columns] if 1 <= len(columns) <= 2 and {*columns} == {(width,)}:
            return width, 0
    return None


def _batch_norm(operands: list[Operand], _: Attributes) -> Found:
    match operands:
        case [int(width), *columns] if len(columns) == 4 and {*columns} == {(width,)}:
            return width, 0
    return None


def _single(operand: Operand) -> bool:
    return not isinstance(operand, int) and math.prod(operand or ()) == 1


_RULES: Mapping[str, Callable[[list[Operand], Attributes], Found]] = {
    "Add": _pairs,
    "Sub": _pairs,
    "Mul": _pairs,
    "Div": _pairs,
    "Pow": _pairs,
    "Min": _broadcast,
    "Max": _broadcast,
    "Clip": _clip,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LayerNormalization": _norm,
    "BatchNormalization": _batch_norm,
}
