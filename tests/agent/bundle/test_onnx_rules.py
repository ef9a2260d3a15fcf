import contextlib
import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.bundle import default_bundle
from agent.bundle.onnx_rules import MAX_NODES, OPERATORS, check_model
from agent.bundle.onnx_shapes import MAX_ROW, MAX_WIDTH, MAX_WORK
from agent.bundle.runtime import onnxruntime
from agent.errors import BundleError
from tests.agent.bundle.bundles_made import (
    EMBEDDING,
    FEATURE_COUNT,
    WEIGHTS,
    as_protobuf_reads,
    encoder_bytes,
    graph,
)

COLUMN = np.linspace(1, 2, FEATURE_COUNT, dtype=np.float32)


def refused(match: str, **options):
    with pytest.raises(BundleError, match=match) as caught:
        check_model(encoder_bytes(**options))
    assert caught.value.hint


def test_a_small_feed_forward_graph_is_accepted():
    check_model(encoder_bytes())


def test_external_data_is_refused():
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    with pytest.raises(BundleError, match="outside the file"):
        check_model(model.SerializeToString())


def test_external_data_in_a_constant_is_refused():
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "c")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    refused("outside the file", nodes=[helper.make_node("Constant", [], ["c"], value=tensor)])


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile", "Loop", "If", "Concat"])
def test_an_operator_an_encoder_does_not_need_is_refused(operator):
    refused(operator, nodes=[helper.make_node(operator, ["features"], ["embedding"])])


def test_operators_of_other_domains_are_refused():
    node = helper.make_node("Gelu", ["features"], ["embedding"], domain="com.microsoft")
    refused("domain", nodes=[node])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    refused("domain", opsets=opsets)


def test_a_subgraph_is_refused():
    inner = graph().graph
    node = helper.make_node("Identity", ["features"], ["embedding"], body=inner)
    refused("subgraph", nodes=[node])


def test_functions_are_refused():
    model = graph()
    model.functions.add().name = "f"
    with pytest.raises(BundleError, match="functions"):
        check_model(model.SerializeToString())


def test_a_graph_of_many_nodes_is_refused():
    nodes = [helper.make_node("Tanh", [f"x{k}"], [f"x{k + 1}"]) for k in range(MAX_NODES + 1)]
    refused("more than", nodes=nodes)


def test_a_tensor_of_many_dimensions_is_refused():
    refused("dimensions", tensors=[numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "w")])


def tensor(*shape: int, name: str = "w", fill: float = 1.0):
    return numpy_helper.from_array(np.full(shape, fill, np.float32), name)


def field(number: int, content: bytes | int) -> bytes:
    """A field in protobuf's wire format, bytes or a whole number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_the_default_bundle_keeps_the_rules():
    found = check_model((default_bundle() / "encoder.onnx").read_bytes())
    assert found.input == ("features", FEATURE_COUNT)
    assert {node.operator for node in found.nodes} <= set(OPERATORS)


# What asks for memory out of proportion to the file.


def test_a_few_bytes_that_ask_for_64_gib_are_refused():
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[131_072, 131_072])
    node = helper.make_node("MatMul", ["features", "w"], ["embedding"])
    content = encoder_bytes(nodes=[node], tensors=[huge], features=2, embedding=2)
    assert len(content) < 140
    with pytest.raises(BundleError, match="dimension of a tensor"):
        check_model(content)
    shape = numpy_helper.from_array(np.array([131_072, 131_072]), "s")
    node = helper.make_node("ConstantOfShape", ["s"], ["embedding"])
    refused("ConstantOfShape", nodes=[node], tensors=[shape])


@pytest.mark.parametrize("shape", [(0,), (-1,), (2**62, 4), (2**32, 2**32), (MAX_WIDTH + 1,)])
def test_dimensions_that_no_weight_has_are_refused(shape):
    refused("dimension of a tensor", tensors=[TensorProto(name="w", data_type=1, dims=shape)])


@pytest.mark.parametrize("there", [0, 4, 4 * FEATURE_COUNT * EMBEDDING - 1, 10_000])
def test_a_tensor_whose_data_does_not_fit_its_shape_is_refused(there):
    short = TensorProto(name="w", data_type=1, dims=WEIGHTS.shape, raw_data=bytes(there))
    refused("numbers has", tensors=[short])


def test_dimensions_count_whether_packed_or_not():
    packed = field(1, varint(FEATURE_COUNT) + varint(EMBEDDING))
    apart = field(1, FEATURE_COUNT) + field(1, EMBEDDING)
    content = encoder_bytes()
    assert apart in content
    weights = numpy_helper.from_array(WEIGHTS, "w").SerializeToString()
    other = weights.replace(apart, packed)
    graph_bytes = graph().graph.SerializeToString().replace(field(5, weights), field(5, other))
    model = graph()
    model.ClearField("graph")
    assert check_model(model.SerializeToString() + field(7, graph_bytes)) == check_model(content)
    for more in (packed + field(1, 1), packed + field(1, varint(1) * 100_000)):
        worse = graph_bytes.replace(field(5, other), field(5, weights.replace(apart, more)))
        with pytest.raises(BundleError, match="dimensions"):
            check_model(model.SerializeToString() + field(7, worse))


def test_a_value_wider_than_any_weight_is_refused():
    refused("more memory", nodes=[
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        *(helper.make_node("Add", ["h", "v"], [f"h{k}"]) for k in range(MAX_ROW // MAX_WIDTH)),
        helper.make_node("MatMul", ["features", "w"], ["embedding"]),
    ], tensors=[tensor(FEATURE_COUNT, 1), tensor(MAX_WIDTH, name="v")], embedding=1)  # fmt: skip


def test_weights_used_again_and_again_are_counted_each_time():
    side = 400
    chain = [helper.make_node("MatMul", ["features", "w"], ["x0"])]
    chain += [
        helper.make_node("MatMul", [f"x{k}", "v"], [f"x{k + 1}"])
        for k in range(MAX_WORK // side**2 + 1)
    ]
    chain.append(helper.make_node("Identity", [chain[-1].output[0]], ["embedding"]))
    tensors = [tensor(FEATURE_COUNT, side), tensor(side, side, name="v")]
    refused("more memory or time", nodes=chain, tensors=tensors, embedding=side)


def test_arithmetic_between_weights_is_refused():  # [4096, 1] + [1, 4096] is 64 MiB
    refused("not rows and weights", nodes=[
        helper.make_node("Add", ["w", "v"], ["big"]),
        helper.make_node("MatMul", ["features", "big"], ["embedding"]),
    ], tensors=[tensor(FEATURE_COUNT, 1), tensor(1, EMBEDDING, name="v")])  # fmt: skip


# What would make a row's embedding depend on other rows.


MIXING = {
    "transposed": ("Gemm", ["features", "w"], {"transA": 1}),
    "normalised over rows": ("LayerNormalization", ["features", "c"], {"axis": 0}),
    "statistics of the batch": ("BatchNormalization", ["features", *"cccc"], {"training_mode": 1}),
    "rows times rows": ("MatMul", ["features", "features"], {}),
    "weights times rows": ("MatMul", ["w", "features"], {}),
    "a weight for each row": ("Add", ["features", "two"], {}),
    "reduced": ("ReduceMean", ["features"], {"axes": [0]}),
    "all rows as one": ("Flatten", ["features"], {"axis": 0}),
    "only some rows": ("Slice", ["features", "one", "one"], {}),
    "by position": ("CumSum", ["features", "one"], {}),
}


@pytest.mark.parametrize("case", MIXING.values(), ids=MIXING.keys())
def test_rows_may_not_look_at_each_other(case):
    operator, inputs, attributes = case
    column = numpy_helper.from_array(COLUMN, "c")
    tensors = [tensor(1, name="one"), tensor(2, FEATURE_COUNT, name="two"), column]
    node = helper.make_node(operator, inputs, ["embedding"], **attributes)
    square = tensor(FEATURE_COUNT, FEATURE_COUNT)
    with pytest.raises(BundleError):
        check_model(
            encoder_bytes(nodes=[node], tensors=[*tensors, square], embedding=FEATURE_COUNT)
        )


SECOND = {"Add": "c", "Sub": "c", "Mul": "c", "Div": "c", "Pow": "p", "Min": "c", "Max": "c",
          "MatMul": "w", "Gemm": "w", "LayerNormalization": "c"}  # fmt: skip
ATTRIBUTES = {"Gemm": {"alpha": 0.5, "transB": 1}, "LayerNormalization": {"axis": -1},
              "LeakyRelu": {"alpha": 0.2}, "Gelu": {"approximate": "tanh"}}  # fmt: skip


@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - {"Constant"}))
def test_every_operator_that_is_allowed_runs_and_takes_each_row_by_itself(operator):
    others = {
        "Clip": [
            "low",
            "",
        ][:1],
        "BatchNormalization": ["c", "c", "z", "c"],
    }
    inputs = ["features", *others.get(operator, [SECOND[operator]] if operator in SECOND else [])]
    node = helper.make_node(operator, inputs, ["embedding"], **ATTRIBUTES.get(operator, {}))
    weights = np.eye(FEATURE_COUNT, dtype=np.float32) * 2
    given = {"c": COLUMN, "z": 0 * COLUMN, "low": np.array(0.1), "w": weights, "p": np.array(2.0)}
    model = graph(
        nodes=[node],
        tensors=[numpy_helper.from_array(v.astype(np.float32), k) for k, v in given.items()],
        embedding=FEATURE_COUNT,
        opsets=[helper.make_opsetid("", 24)],
    )
    model.ir_version = 10
    check_model(model.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = np.random.default_rng(0).uniform(0.1, 2, (7, FEATURE_COUNT)).astype(np.float32)
    (together,) = session.run(None, {"features": rows})
    alone = [session.run(None, {"features": row[None]})[0][0] for row in rows]
    assert together == pytest.approx(np.array(alone), rel=1e-5)


# What does not fit together.


BROKEN = {
    "a name nobody made": ("uses 'y'", ["features", "y"]),
    "itself": ("uses 'embedding'", ["features", "embedding"]),
    "the wrong width": ("not rows and weights", ["features", "v"]),
    "one operand": ("not rows and weights", ["features"]),
    "an operand left out": ("not rows and weights", ["features", ""]),
}


@pytest.mark.parametrize(("words", "inputs"), BROKEN.values(), ids=BROKEN.keys())
def test_nodes_that_do_not_fit_together_are_refused(words, inputs):
    node = helper.make_node("MatMul", inputs, ["embedding"])
    refused(words, nodes=[node], tensors=[tensor(3, 3, name="v")])


def test_two_values_of_one_name_are_refused():
    nodes = [helper.make_node("MatMul", ["features", "w"], ["embedding"])] * 2
    refused("called 'embedding'", nodes=nodes)
    refused("same name", tensors=[numpy_helper.from_array(WEIGHTS, "w")] * 2)
    refused("too", tensors=[numpy_helper.from_array(WEIGHTS, "w"), tensor(1, name="features")])
    refused("called 'w'", nodes=[helper.make_node("Tanh", ["features"], ["w"])])


def test_more_or_other_inputs_and_outputs_are_refused():
    model = graph()
    model.graph.input.append(model.graph.input[0])
    with pytest.raises(BundleError, match="more than 1 inputs"):
        check_model(model.SerializeToString())
    refused("expected", batch=1)
    refused("output is not", embedding=EMBEDDING + 1)
    refused("output is not", output="y")
    refused("n free", embedding="e")
    model = graph()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(BundleError, match="32-bit floats"):
        check_model(model.SerializeToString())
    model = graph()
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(BundleError, match="more than 1 outputs"):
        check_model(model.SerializeToString())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_refused(value):
    weights = WEIGHTS.copy()
    weights[-1, -1] = value
    refused("not a finite number", tensors=[numpy_helper.from_array(weights, "w")])


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.int64, np.bool_])
def test_weights_of_other_types_are_refused(kind):
    refused("32-bit floats", tensors=[numpy_helper.from_array(WEIGHTS.astype(kind), "w")])


def test_weights_written_in_other_ways_are_refused():
    words = helper.make_tensor("w", TensorProto.STRING, [1], [b"x"])
    refused("field 6 of TensorProto", tensors=[words])
    listed = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    refused("not raw data", tensors=[listed])
    model = graph()
    model.graph.sparse_initializer.add()
    with pytest.raises(BundleError, match="sparse"):
        check_model(model.SerializeToString())


CONSTANTS = [{"value_floats": [1.0] * 9}, {"value_ints": [1, 2]}, {"value_string": "x"},
             {"value_strings": ["x"] * 3}, {"value_float": 1.0}, {"value": 1.0}, {}]  # fmt: skip


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_constant_is_a_tensor_or_refused(value):
    node = helper.make_node("Constant", [], ["w"], **value)
    last = helper.make_node("MatMul", ["features", "w"], ["embedding"])
    with pytest.raises(BundleError):
        check_model(encoder_bytes(nodes=[node, last], tensors=[]))


def test_a_constant_tensor_is_a_weight_like_any_other():
    node = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHTS))
    last = helper.make_node("MatMul", ["features", "w"], ["embedding"])
    assert check_model(encoder_bytes(nodes=[node, last], tensors=[])).tensors == {
        "w": WEIGHTS.shape
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.__setattr__("f", math.nan),
        lambda a: a.__setattr__("i", 3),  # a float and a whole number
        lambda a: a.ClearField("f"),
        lambda a: a.__setattr__("type", onnx.AttributeProto.INT),
        lambda a: a.ClearField("type"),
        lambda a: a.__setattr__("name", "beta"),
        lambda a: a.__setattr__("ref_attr_name", "alpha"),
        lambda a: a.__setattr__("doc_string", "x"),
        lambda a: a.floats.extend([1.0] * 1000),
    ],
)
def test_an_attribute_that_is_not_as_expected_is_refused(change):
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("Elu", ["h"], ["embedding"], alpha=0.5),
    ]
    check_model(encoder_bytes(nodes=nodes))
    change(nodes[1].attribute[0])
    with pytest.raises(BundleError):
        check_model(encoder_bytes(nodes=nodes))


@pytest.mark.parametrize("name", ["x" * 257, "a\nb", "a\x1b[31m", "a\0", "\u202ea"])
def test_a_name_that_cannot_be_shown_to_people_is_refused(name):
    node = helper.make_node("MatMul", ["features", name], ["embedding"])
    refused("in it is", nodes=[node])


# Protobuf that can be read in more than one way.


def parts() -> tuple[bytes, bytes]:
    """A model without its graph, and the graph."""
    model = graph()
    inner = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString(), inner


def test_a_second_graph_which_protobuf_would_merge_is_refused():
    rest, inner = parts()
    check_model(rest + field(7, inner))
    more = onnx.GraphProto(node=[helper.make_node("Loop", ["a"], ["b"])]).SerializeToString()
    for second in (inner, more, b""):
        merged = rest + field(7, inner) + field(7, second)
        with pytest.raises(BundleError, match="more than 1 graph"):
            check_model(merged)
    assert [n.op_type for n in onnx.load_from_string(rest + field(7, inner + more)).graph.node]


def test_a_tensor_given_twice_in_an_attribute_is_refused():
    small = numpy_helper.from_array(np.ones(1, np.float32)).SerializeToString()
    dims = field(1, 2**20) + field(1, 2**20)  # merged, the dimensions of both are one list
    attribute = field(1, b"value") + field(5, small) + field(5, dims) + field(20, 4)
    node = field(2, b"w") + field(4, b"Constant") + field(5, attribute)
    rest, inner = parts()
    with pytest.raises(BundleError, match="more than 1 tensor"):
        check_model(rest + field(7, field(1, node) + inner))


SINGLE = [field(4, b"Tanh") + field(4, b"Loop"), field(7, b"") + field(7, b"evil")]


@pytest.mark.parametrize("twice", SINGLE)
def test_a_value_given_twice_of_which_protobuf_takes_the_last_is_refused(twice):
    rest, inner = parts()
    node = field(1, b"features") + field(2, b"x") + twice
    with pytest.raises(BundleError):
        check_model(rest + field(7, inner + field(1, node)))


ODD_WIRE = {
    "a number in a longer form": b"\x08\x88\x00",  # ir_version 8
    "a number of 65 bits": b"\x08" + b"\xff" * 9 + b"\x7f",
    "a number that does not end": b"\x08" + b"\x80" * 11,
    "a key in a longer form": b"\x88\x00\x08",
    "a key that a 32-bit reader would cut": varint((1 << 32) | 8) + b"\x08",
    "field 0": b"\x00\x01",
    "a group": b"\x0b\x0c",
    "the end of a group": b"\x0c",
    "a wire type that does not exist": b"\x0e",
    "64 bits where a number belongs": b"\x09" + bytes(8),
    "bytes where a number belongs": field(1, b"\x08"),
    "a number where text belongs": field(2, 7),
    "a field nobody knows": field(77, b"x"),
    "a length beyond the end": b"\x12\x7f",
    "a length beyond any end": b"\x12" + varint(2**64 - 1),
}


@pytest.mark.parametrize("odd", ODD_WIRE.values(), ids=ODD_WIRE.keys())
def test_wire_format_that_another_reader_could_read_otherwise_is_refused(odd):
    model = graph()
    model.ClearField("ir_version")
    check_model(model.SerializeToString() + field(1, 8))
    with pytest.raises(BundleError):
        check_model(model.SerializeToString() + odd)


def test_text_that_is_not_utf8_is_refused():
    rest, inner = parts()
    with pytest.raises(BundleError, match="not text"):
        check_model(rest + field(2, b"\xff\xfe") + field(7, inner))


def test_many_small_fields_are_given_up_early():
    rest, inner = parts()
    for number, wire in ((13, b""), (1, b""), (5, b"")):
        with pytest.raises(BundleError):
            check_model(rest + field(7, inner + field(number, wire) * 500_000))


@pytest.mark.parametrize("versions", [[12], [], [2**31], [17, 17]])
def test_operators_of_unknown_versions_are_refused(versions):
    refused("version", opsets=[helper.make_opsetid("", v) for v in versions])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_what_is_accepted_is_read_as_protobuf_reads_it(data):
    content = bytearray(encoder_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    try:
        found = check_model(bytes(content))
    except BundleError:
        return
    nodes = [(n.operator, n.inputs, n.output, n.attributes) for n in found.nodes]
    assert (nodes, found.tensors, found.input, found.output) == as_protobuf_reads(bytes(content))


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 20, b"\x3a\xff\xff\xff\x7f", b"{}"])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(BundleError):
        check_model(content)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_refusal(content):
    with pytest.raises(BundleError):
        check_model(content)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_accepted_or_refused_but_never_a_crash(at, change):
    content = bytearray(encoder_bytes())
    content[at % len(content)] ^= change
    with contextlib.suppress(BundleError):
        check_model(bytes(content))
