"""What looking at a fetched bundle costs: each check's time, and the memory an encoder needs.

    python benchmarks/probe.py

Encoders other than the default bundle's are drawn at random: the deepest and the widest that fit
in a bundle. The least memory with which the child still answers is found by bisection, to 2 MiB.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.bundle import ENCODER, MAX_BYTES, Bundle, default_bundle, load_bundle
from agent.bundle.encoder import Encoder
from agent.bundle.onnx_rules import check_model
from agent.bundle.probe import ProbeLimits, _environment, probe
from agent.errors import BundleError
from agent.loopnest.features.vector import FEATURES
from agent.model.prior import Prior
from agent.update.archive import pack_bundle, unpack

EMBEDDING = 64
LIBRARIES = """
import numpy.random, agent.bundle.encoder
words = open("/proc/self/statm").read().split()
print(int(words[0]) * 4 // 1024, int(words[1]) * 4 // 1024)
"""


def network(width: int, blocks: int) -> bytes:
    """A residual network like the default bundle's, its weights drawn at random."""
    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []

    def weight(*shape: int) -> str:
        values = rng.normal(size=shape).astype(np.float32) / 20
        weights.append(numpy_helper.from_array(values, f"w{len(weights)}"))
        return str(weights[-1].name)

    def add(operator: str, *inputs: str, output: str = "", **attributes: int) -> str:
        output = output or f"x{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    last = add("Gemm", "features", weight(len(FEATURES), width), weight(width))
    for _ in range(blocks):
        inner = add("LayerNormalization", last, weight(width), weight(width), axis=-1)
        inner = add("Relu", add("Gemm", inner, weight(width, width), weight(width)))
        last = add("Add", add("Gemm", inner, weight(width, width), weight(width)), last)
    last = add("LayerNormalization", last, weight(width), weight(width), axis=-1)
    add("Gemm", last, weight(width, EMBEDDING), weight(EMBEDDING), output="embedding")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("features", len(FEATURES)), ("embedding", EMBEDDING))
    ]
    graph = helper.make_graph(nodes, "encoder", ends[:1], ends[1:], weights)
    opset = helper.make_opsetid("", 17)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def with_encoder(bundle: Bundle, content: bytes) -> Bundle:
    """The bundle with another encoder in it, and golden rows to match."""
    assert len(content) <= MAX_BYTES[ENCODER], len(content)
    check_model(content)
    other = replace(bundle, encoder=content)
    rows = np.asarray(bundle.golden[0], np.float32)
    return replace(other, golden=(bundle.golden[0], Encoder(other).embed(rows).tolist()))


def least_memory(bundle: Bundle) -> int:
    """MiB beyond the libraries with which the probe still passes."""
    low, high = 0, 512
    while high - low > 2:
        middle = (low + high) // 2
        try:
            probe(bundle, ProbeLimits(memory=middle * 2**20))
            high = middle
        except BundleError:
            low = middle
    return high


def timed(action: Callable[[], object], rounds: int = 9) -> float:
    """Median milliseconds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken)


def main() -> None:
    bundle = load_bundle(default_bundle())
    archive = pack_bundle(default_bundle())
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES], capture_output=True, text=True, env=_environment()
    )
    space, resident = done.stdout.split()
    print(f"libraries loaded: {space} MiB of address space, {resident} resident")
    steps: dict[str, Callable[[], object]] = {
        "unpack": lambda: unpack(archive),
        "load_bundle": lambda: load_bundle(default_bundle()),
        "  of that check_model": lambda: check_model(bundle.encoder),
        "Prior.from_json": lambda: Prior.from_json(bundle.prior),
        "probe": lambda: probe(bundle),
    }
    for name, action in steps.items():
        print(f"{name:24} {timed(action):8.1f} ms")
    encoders = {
        "the default bundle's": bundle,
        "the deepest": with_encoder(bundle, network(128, 21)),
        "the widest": with_encoder(bundle, network(2048, 0)),
    }
    for name, other in encoders.items():
        size = len(other.encoder) / 2**20
        need, milliseconds = least_memory(other), timed(lambda other=other: probe(other), 5)
        print(f"{name:24} {size:5.2f} MiB: needs {need} MiB, {milliseconds:.0f} ms")


if __name__ == "__main__":
    main()
