"""A bundle in words and numbers, for ``bundles inspect`` and ``agent bundle show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.bundle.bundle import Bundle
from agent.json_values import JsonValue
from agent.model.prior import Prior

_COLUMNS = {
    "log_error": "log error",
    "spearman": "Spearman",
    "top_share": "top pick",
    "seconds_log_error": "seconds",
}


def describe(bundle: Bundle, prior: Prior, difference: float) -> dict[str, JsonValue]:
    """Everything worth knowing about a verified bundle; ``difference``: of its self-test."""
    spread = np.linalg.norm(prior.scaled_directions, axis=0)
    return {
        "path": str(bundle.path),
        "name": bundle.name,
        "version": bundle.version,
        "created": bundle.created,
        "licence": bundle.licence,
        "digest": bundle.digest,
        "embedding": bundle.embedding,
        "bytes": {"encoder": len(bundle.encoder)},
        "self_test": {"rows": len(bundle.golden[0]), "largest_difference": difference},
        "prior": {
            "directions": [round(float(x), 3) for x in spread],
            "direction_scale": prior.direction_scale,
            "rest_sd": prior.rest_sd,
            "noise": {"speedup": prior.noise_speedup, "seconds": prior.noise_seconds},
            "program": {"speedup": prior.program_speedup, "seconds": prior.program_seconds},
        },
        "provenance": dict(bundle.provenance),
    }


def description_text(value: Mapping[str, Any]) -> str:
    """The description as text."""
    provenance, prior, test = value["provenance"], value["prior"], value["self_test"]
    size = value["bytes"]["encoder"] / 2**20
    lines = [
        f"bundle {value['name']} {value['version']}, made {value['created']}, {value['licence']}",
        f"  in         {value['path']}",
        f"  digest     {value['digest']}",
        f"  encoder    {size:.2f} MiB, {value['embedding']} numbers a program",
        f"  self-test  {test['rows']} golden rows, off by at most {test['largest_difference']:.1e}",
        f"  prior      {len(prior['directions'])} directions in which machines differ, sd "
        + " ".join(f"{x:g}" for x in prior["directions"]),
        f"  code       {provenance.get('code_version', '?')}",
        "  recipe     " + _pairs(provenance.get("recipe")),
        "  made with  " + _pairs(provenance.get("environment")),
        *_references(provenance.get("references")),
        *_log(provenance.get("training_log")),
        *_evaluation(provenance.get("evaluation")),
    ]
    return "\n".join(lines)


def _pairs(value: object) -> str:
    if not isinstance(value, Mapping):
        return "?"
    plain = {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}
    return ", ".join(f"{str(k)[:40]} {str(v)[:40]}" for k, v in plain.items())


def _references(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        return ["  references none: simulated machines only"]
    names = [str(x.get("target", "?"))[:60] for x in value if isinstance(x, Mapping)]
    return [f"  references {len(names)} machines: " + ", ".join(names)]


def _log(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        return []
    return [f"  training   {len(value)} epochs; the last: {_pairs(value[-1])}"]


def _evaluation(value: object) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    lines = [
        f"  evaluation {str(value.get('protocol', ''))[:300]}",
        "    " + " " * 22 + "".join(f"{name:>12}" for name in _COLUMNS.values()),
    ]
    for name, row in value.items():
        if isinstance(row, Mapping):
            cells = (row.get(column) for column in _COLUMNS)
            lines.append(f"    {str(name)[:22]:22}" + "".join(f"{_cell(c):>12}" for c in cells))
    return lines


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"
