"""The encoder: features to embeddings, through onnxruntime on one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from agent.arrays import Singles
from agent.bundle.bundle import TOLERANCE, Bundle
from agent.bundle.runtime import ERRORS, onnxruntime
from agent.errors import BundleError
from agent.loopnest.features.vector import FEATURES

INPUT, OUTPUT = "features", "embedding"
_CHUNK = 8_192
_HINT = "Install the bundle again, or use the one that came with the agent."
_FATAL = 4


class _TensorInfo(Protocol):
    """What is read of ``onnxruntime.NodeArg``."""

    name: str
    type: str
    shape: Sequence[int | str | None]  # a text or nothing: any size


class _Session(Protocol):
    """What is called of ``onnxruntime.InferenceSession``."""

    def get_inputs(self) -> Sequence[_TensorInfo]: ...

    def get_outputs(self) -> Sequence[_TensorInfo]: ...

    def run(self, names: Sequence[str], given: Mapping[str, Singles]) -> Sequence[Singles]: ...


class Encoder:
    """Maps [n,F] features to [n,E] embeddings.

    Raises:
        BundleError: onnxruntime does not take the graph, or it has other inputs or outputs.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._embedding = bundle.embedding
        try:
            # From bytes, never from a path: no file beside it can be named by it.
            self._session: _Session = onnxruntime.InferenceSession(
                bundle.encoder, _options(), providers=["CPUExecutionProvider"]
            )
        except ERRORS as error:
            raise _refusal(error) from error
        _check(self._session.get_inputs(), INPUT, len(FEATURES))
        _check(self._session.get_outputs(), OUTPUT, bundle.embedding)

    def embed(self, features: Singles) -> Singles:
        """[n,E] float32 embeddings of [n,F] features.

        Raises:
            BundleError: the graph fails on them, or gives something else than [n,E] finite numbers.
        """
        out = np.empty((len(features), self._embedding), np.float32)
        for start in range(0, len(features), _CHUNK):
            part = np.ascontiguousarray(features[start : start + _CHUNK], np.float32)
            out[start : start + len(part)] = self._run(part)
        return out

    def _run(self, part: Singles) -> Singles:
        try:
            (found,) = self._session.run([OUTPUT], {INPUT: part})
        except ERRORS as error:
            raise _refusal(error) from error
        embedding = np.asarray(found)
        if embedding.shape != (len(part), self._embedding) or not np.isfinite(embedding).all():
            raise BundleError("the bundle's encoder gives wrong shapes or no numbers", hint=_HINT)
        return embedding


def golden_difference(bundle: Bundle, encoder: Encoder) -> float:
    """Largest difference from the bundle's golden embeddings; 0 where it has none.

    Raises:
        BundleError: it is more than ``TOLERANCE``.
    """
    rows, expected = (np.asarray(x, np.float32) for x in bundle.golden)
    if not len(rows):
        return 0.0
    difference = float(np.abs(encoder.embed(rows) - expected).max())
    if difference > TOLERANCE:
        raise BundleError(
            f"the bundle's encoder is off by {difference:.2g} on its own golden rows", hint=_HINT
        )
    return difference


def _options() -> object:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return options


def _check(values: Sequence[_TensorInfo], name: str, width: int) -> None:
    if len(values) != 1:
        raise BundleError(f"the bundle's encoder has {len(values)} {name} tensors", hint=_HINT)
    value = values[0]
    shape = list(value.shape)
    free = len(shape) == 2 and not isinstance(shape[0], int)
    if value.name != name or value.type != "tensor(float)" or not free or shape[1] != width:
        found = f"{value.name[:40]!r} {value.type} {shape}"
        raise BundleError(
            f"the bundle's encoder has {found}; expected {name!r} float [n, {width}]", hint=_HINT
        )


def _refusal(error: Exception) -> BundleError:
    words = " ".join(str(error).split())[:300]
    return BundleError(f"onnxruntime does not take the bundle's encoder: {words}", hint=_HINT)
