"""1,300 spoiled manifests, models, priors and archives: each is taken or refused, in bounds.

Whatever is taken after all goes on to the next check as a fetched bundle would: a sample of the
models to onnxruntime itself, in the real child.
"""

import contextlib
import hashlib
import json
import math
import os
import random
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.bundle import load_bundle
from agent.bundle.describe import describe, description_text
from agent.bundle.onnx_rules import check_model
from agent.bundle.probe import probe
from agent.errors import BundleError
from agent.model.facts import FACTS
from agent.model.prior import Prior
from agent.update.archive import pack_bundle, unpack, write_bundle
from tests.agent.bundle.bundles_made import (
    EMBEDDING,
    FEATURE_COUNT,
    WEIGHTS,
    as_protobuf_reads,
    encoder_bytes,
    golden,
    manifest_of,
)
from tests.agent.bundle.bundles_made import write_bundle as make_bundle
from tests.agent.update import mutations

MANIFESTS, MODELS, PRIORS, ARCHIVES = 400, 500, 200, 200
PROBED = 10  # mutants that a child tries: a quarter of a second each
SECONDS = 2.0  # of CPU time; alone on a machine the longest takes 0.13
MEMORY = 128 * 2**20  # beyond what this process has when it starts
PARTS = 2  # so that two cores share the work
PRIOR = {
    "schema": 1,
    "mean": [0.1 * k for k in range(EMBEDDING + 1)],
    "directions": [[0.5, 0.1 * k] for k in range(EMBEDDING + 1)],
    "noise_speedup": 0.3,
    "noise_seconds": 0.2,
    "machine_dof": 4.0,
    "noise_weight": 20.0,
    "facts": list(FACTS),
    "facts_centre": [5.0] * len(FACTS),
    "facts_scale": [2.0] * len(FACTS),
    "facts_shift": [[0.1] * len(FACTS)] * (EMBEDDING + 1),
}
PROVENANCE = {
    "seeds": [1],
    "code_version": "abc",
    "recipe": {"rate": 0.1, "epochs": 3},
    "environment": {"torch": "2"},
    "references": [{"target": "here", "rows": 3}],
    "training_log": [{"epoch": 1, "loss": 0.5}],
    "evaluation": {"protocol": "p", "ridge": {"log_error": 0.4, "spearman": 0.6}},
}


@contextlib.contextmanager
def little_memory():
    """A limit that turns a request for much memory into a MemoryError, which fails the test."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def survived(action, *arguments):
    """What ``action`` gives, None where it refuses: in time, and in words that can be shown."""
    started, refusal, found = time.process_time(), None, None
    try:
        found = action(*arguments)
    except BundleError as error:
        refusal = error
    assert time.process_time() - started < SECONDS
    assert refusal is None or (refusal.message.isprintable() and refusal.hint)
    return found


def parts(count: int):
    """Seeds of a test's mutants, for each of its parts."""
    each = count // PARTS
    return pytest.mark.parametrize(
        "seeds", [range(k * each, (k + 1) * each) for k in range(PARTS)], ids=str
    )


def layered() -> bytes:
    """An encoder with most of what the rules know: attributes, a constant, omitted operands."""
    rng = np.random.default_rng(0)
    arrays = {
        "enter": rng.normal(size=(8, FEATURE_COUNT)) / 20, "bias": rng.normal(size=8),
        "scale": np.ones(8), "low": np.array(-3.0), "leave": rng.normal(size=(8, EMBEDDING)),
    }  # fmt: skip
    half = numpy_helper.from_array(np.array(0.5, np.float32))
    nodes = [
        helper.make_node("Gemm", ["features", "enter", "bias"], ["a"], transB=1, alpha=0.5),
        helper.make_node("LayerNormalization", ["a", "scale", "bias"], ["b"], axis=-1, name="norm"),
        helper.make_node("Clip", ["b", "low"], ["c"]),
        helper.make_node("Constant", [], ["half"], value=half),
        helper.make_node("Mul", ["c", "half"], ["d"]),
        helper.make_node("BatchNormalization", ["d", "scale", "bias", "bias", "scale"], ["e"]),
        helper.make_node("Add", ["e", "a"], ["f"]),
        helper.make_node("MatMul", ["f", "leave"], ["embedding"]),
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()]
    return encoder_bytes(nodes=nodes, tensors=tensors)


SMALL, LAYERED = encoder_bytes(), layered()


def spoiled_model(seed: int) -> bytes:
    rng = random.Random(f"model {seed}")
    one, other = rng.sample([SMALL, LAYERED], 2)
    if rng.random() < 0.3:
        return mutations.of_bytes(one, rng)
    return mutations.of_protobuf(one, other, rng)


def spoiled_json(value: dict, rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        return mutations.of_bytes(json.dumps(value).encode(), rng)
    return mutations.of_json(value, rng)


def sound(path: Path) -> Path:
    prior = json.dumps(PRIOR).encode()
    return make_bundle(path, encoder=LAYERED, prior=prior, provenance=PROVENANCE)


def used(path: Path) -> bool:
    """Do with a bundle what the agent does before it runs the encoder."""
    bundle = load_bundle(path)
    prior = Prior.from_json(bundle.prior)
    text = description_text(describe(bundle, prior, 0.0)) + json.dumps(
        bundle.provenance, allow_nan=False
    )
    text.encode()
    assert "\x1b" not in text
    return True


def test_the_sound_files_that_are_spoiled_below_are_taken(tmp_path):
    assert used(sound(tmp_path / "b"))
    assert unpack(pack_bundle(tmp_path / "b"))
    check_model(SMALL)


@parts(MANIFESTS)
def test_spoiled_manifests(tmp_path, seeds):
    path = sound(tmp_path / "b")
    files = {name: (path / name).read_bytes() for name in ("encoder.onnx", "prior.json")}
    manifest = manifest_of(files, provenance=PROVENANCE)
    taken = 0
    with little_memory():
        for seed in seeds:
            content = spoiled_json(manifest, random.Random(f"manifest {seed}"))
            (path / "manifest.json").write_bytes(content)
            taken += bool(survived(used, path))
    assert 0 < taken < len(seeds) / 2  # a changed date or licence is no harm


@parts(PRIORS)
def test_spoiled_priors(tmp_path, seeds):
    path = sound(tmp_path / "b")
    manifest = json.loads((path / "manifest.json").read_text())
    taken = 0
    with little_memory():
        for seed in seeds:
            content = spoiled_json(PRIOR, random.Random(f"prior {seed}"))
            (path / "prior.json").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            manifest["files"]["prior.json"] = {"sha256": digest, "bytes": len(content)}
            (path / "manifest.json").write_text(json.dumps(manifest))
            taken += bool(survived(used, path))
    assert 0 < taken < len(seeds) / 2


@parts(MODELS)
def test_spoiled_models(tmp_path, seeds):
    accepted = []
    with little_memory():
        for seed in seeds:
            content = spoiled_model(seed)
            if (found := survived(check_model, content)) and content not in (SMALL, LAYERED):
                accepted.append((content, found))
    assert 0 < len(accepted) < len(seeds) / 2
    for content, graph in accepted:
        nodes = [(n.operator, n.inputs, n.output, n.attributes) for n in graph.nodes]
        assert (nodes, graph.tensors, graph.input, graph.output) == as_protobuf_reads(content)
    fine = 0
    for content, _ in random.Random(0).sample(accepted, min(PROBED // PARTS, len(accepted))):
        bundle = load_bundle(make_bundle(tmp_path / "b", encoder=content))
        fine += survived(probe, bundle) is not None
    assert fine < PROBED // PARTS


@parts(ARCHIVES)
def test_spoiled_archives(tmp_path, seeds):
    content = pack_bundle(sound(tmp_path / "b"))
    files = unpack(content)
    digest = load_bundle(tmp_path / "b").digest
    for seed in seeds:
        rng = random.Random(f"archive {seed}")
        spoil = mutations.of_bytes if rng.random() < 0.3 else mutations.of_tar
        with little_memory():
            changed = spoil(content, rng)
            found = survived(unpack, changed)
        if found is None or found == files:
            assert (found is None) == (changed != content)
            continue
        place = tmp_path / str(seed)
        place.mkdir()
        write_bundle(found, place)
        bundle = survived(load_bundle, place)  # a date in the manifest, or a file's digest is wrong
        assert bundle is None or bundle.digest != digest


# Made by hand, and whole: digests right, manifest right.


def refused(path: Path, words: str, **options) -> None:
    with pytest.raises(BundleError, match=words):
        probe(load_bundle(make_bundle(path, **options)))


def test_an_encoder_of_126_bytes_that_asks_for_64_gib(tmp_path):
    huge = TensorProto(name="w", data_type=1, dims=[131_072, 131_072])
    node = helper.make_node("MatMul", ["features", "w"], ["embedding"])
    encoder = encoder_bytes(nodes=[node], tensors=[huge], features=2, embedding=2)
    assert len(encoder) < 140
    with little_memory():
        refused(tmp_path / "b", "dimension of a tensor", encoder=encoder)


def test_weights_in_other_files_through_real_links(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(WEIGHTS.tobytes())
    path = tmp_path / "b"
    path.mkdir()
    os.link(secret, path / "hard")
    (path / "soft").symlink_to(secret)
    for location in ("hard", "soft", "../secret", str(secret)):
        outside = TensorProto(name="w", data_type=1, dims=WEIGHTS.shape, data_location=1)
        outside.external_data.add(key="location", value=location)
        encoder = encoder_bytes(tensors=[outside])
        refused(path, "outside the file", encoder=encoder)


def test_a_file_that_is_a_hard_link_is_no_more_than_its_content(tmp_path):
    path = sound(tmp_path / "b")
    (tmp_path / "secret").write_text("something of this machine's")
    (path / "encoder.onnx").unlink()
    os.link(tmp_path / "secret", path / "encoder.onnx")
    with pytest.raises(BundleError, match="not what its manifest says"):
        load_bundle(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers(tmp_path, value):
    weights = WEIGHTS.copy()
    weights[3, 1] = value
    refused(tmp_path / "b", "not a finite number",
            encoder=encoder_bytes(tensors=[numpy_helper.from_array(weights, "w")]))  # fmt: skip


def test_weights_that_become_no_numbers(tmp_path):
    weights = numpy_helper.from_array(WEIGHTS * np.float32(3e38), "w")
    nodes = [helper.make_node("MatMul", ["features", "w"], ["h"]),
             helper.make_node("Sub", ["h", "h"], ["embedding"])]  # fmt: skip
    rows = (np.array(golden()["features"]) * 1e9).tolist()
    table = {"features": rows, "embedding": [[0.0] * EMBEDDING] * 2}
    refused(tmp_path / "b", "no finite numbers",
            encoder=encoder_bytes(nodes=nodes, tensors=[weights]), golden=table)  # fmt: skip


def test_an_encoder_of_other_widths(tmp_path):
    narrow = numpy_helper.from_array(WEIGHTS[1:], "w")
    encoder = encoder_bytes(tensors=[narrow], features=FEATURE_COUNT - 1)
    refused(tmp_path / "b", "onnxruntime does not take", encoder=encoder)
    narrow = numpy_helper.from_array(WEIGHTS[:, 1:], "w")
    encoder = encoder_bytes(tensors=[narrow], embedding=EMBEDDING - 1)
    refused(tmp_path / "b", "onnxruntime does not take", encoder=encoder)


def test_an_encoder_of_somebody_elses_golden_rows(tmp_path):
    refused(tmp_path / "b", "off by", encoder=LAYERED)


def test_a_bundle_that_cannot_be_tried(tmp_path):
    path = make_bundle(tmp_path / "b")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["golden"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no golden rows"):
        probe(load_bundle(path))
