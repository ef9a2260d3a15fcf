import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from agent.errors import BundleError
from agent.model.onnx_rules import MAX_NODES, check_model
from tests.model.bundles_made import encoder_bytes, graph


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
    tensor = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
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
