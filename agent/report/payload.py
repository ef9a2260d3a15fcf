"""The report: a few rounded figures and codes from closed lists, as bytes. Pure functions.

docs/reference/schemas/report-payload.json says the same as a schema, docs/reference/report.md why
each field is there. Nothing comes in here but by name: what the agent comes to know of a machine
later is not in the report unless somebody writes it down below. The centre checks what comes by
the lists and limits that stand here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Final, Literal, get_args

from agent import __version__
from agent.measure.toolchain import family_of
from agent.model.records import PredictionAccuracy

if TYPE_CHECKING:
    from agent.bundle.installed import BundleReference
    from agent.calibration.calibration import Calibration, ToolchainFacts

SCHEMA = 2
ADDED = ("first", "label")  # by schema 2; a centre that knows schema 1 only is sent the rest
ONCE_IN_WEEKS = 12  # a machine that reports more often is still one machine
MAX_BYTES = 2_048  # what the centre takes; the longest that can be made here is far shorter
Channel = Literal["pilot", "stable", "none"]
Architecture = Literal["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64", "other"]
CompilerFamily = Literal["gcc", "clang", "prebuilt", "other"]
TimingsBucket = Literal["0", "1-15", "16-31", "32-47", "48+"]
NoiseBucket = Literal["under-1%", "1-3%", "3-10%", "over-10%", "unknown"]
Outcome = Literal["kept", "fell-back", "refused", "too-noisy"]
CHANNELS: Final[tuple[str, ...]] = get_args(Channel)
ARCHITECTURES: Final[tuple[str, ...]] = get_args(Architecture)
TOOLCHAINS: Final[tuple[str, ...]] = get_args(CompilerFamily)
TIMINGS: Final[tuple[str, ...]] = get_args(TimingsBucket)
NOISE: Final[tuple[str, ...]] = get_args(NoiseBucket)
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
ERROR_STEP, SHARE_STEP = 0.02, 0.05
WORST_ERROR: Final = 5.0  # log error: a factor of 148
LONGEST_NAME, LONGEST_VERSION = 64, 32  # characters of a bundle's name and version
_TIMINGS_FROM = (1, 16, 32, 48)
_NOISE_FROM = (0.01, 0.03, 0.10)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(frozen=True, slots=True)
class Occasion:
    """When and where from a report is made.

    Attributes:
        channel: one of ``CHANNELS``.
        week: ISO week, ``2026-W48``.
        secret: of this machine and week; never leaves it.
        told: digests of bundles that this machine told of in the last ``ONCE_IN_WEEKS`` weeks.
        label: the site's own name for this machine; None: it is not named.
    """

    channel: str
    week: str
    secret: bytes
    told: frozenset[str] = frozenset()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class RoundedAccuracy:
    """How good one way to predict is here, rounded.

    Attributes:
        speedup_error: mean absolute log error of speed-ups, to 0.02.
        seconds_error: of times in seconds; None: nothing to judge by, as for the next ones.
        rank: Spearman's correlation within a program, to 0.05.
        top_pick: speed of the version predicted fastest / speed of the fastest, to 0.05.
    """

    speedup_error: float
    seconds_error: float | None
    rank: float | None
    top_pick: float | None


@dataclass(frozen=True, slots=True)
class Payload:
    """All that is told of one outcome; the fields are those of the schema."""

    agent: str
    bundle: str
    bundle_version: str
    channel: str
    week: str
    architecture: str
    toolchain: str
    timings: str
    noise: str
    calibrated: RoundedAccuracy | None
    bundle_alone: RoundedAccuracy | None
    outcome: str
    dedupe: str
    first: bool
    label: str | None = None

    def to_bytes(self) -> bytes:
        """Its bytes; without a label nothing stands for one."""
        body = {"schema": SCHEMA, **asdict(self)}
        if self.label is None:
            del body["label"]
        return _written(body)


@dataclass(frozen=True, slots=True)
class RefusedErrors:
    """Log errors here of a bundle that was turned down (of ``agent.update.verdict.Verdict``)."""

    new: float | None = None
    new_seconds: float | None = None


def of_calibration(calibration: Calibration, when: Occasion) -> Payload:
    """What is told of a calibration."""
    accuracy = calibration.accuracy
    judged = _rounded_accuracy(accuracy.calibrated), _rounded_accuracy(accuracy.bundle_alone)
    return _report(calibration, calibration.bundle, when, judged, outcome_of(calibration))


def of_refusal(
    bundle: BundleReference, errors: RefusedErrors, calibration: Calibration, when: Occasion
) -> Payload:
    """What is told of a bundle that was offered and is worse here than the one in force.

    Args:
        bundle: name, version and digest of the one that was turned down.
        errors: of it, on this machine.
        calibration: the one whose timings judged it.
        when: the occasion.
    """
    found = PredictionAccuracy(log_error=errors.new, seconds_log_error=errors.new_seconds)
    return _report(calibration, bundle, when, (_rounded_accuracy(found), None), "refused")


def _report(
    calibration: Calibration,
    bundle: BundleReference,
    when: Occasion,
    judged: tuple[RoundedAccuracy | None, RoundedAccuracy | None],
    outcome: str,
) -> Payload:
    return Payload(
        agent=__version__,
        bundle=plain_name(bundle.name, LONGEST_NAME),
        bundle_version=plain_name(bundle.version, LONGEST_VERSION),
        channel=when.channel,
        week=when.week,
        architecture=known_architecture(calibration.machine.level),
        toolchain=compiler_family(calibration.toolchain),
        timings=_bucket(calibration.timings.usable, _TIMINGS_FROM, TIMINGS),
        noise=noise_bucket(calibration.noise),
        calibrated=judged[0],
        bundle_alone=judged[1],
        outcome=outcome,
        dedupe=dedupe(when.secret, bundle.digest, when.week),
        first=bundle.digest not in when.told,
        label=when.label,
    )


def outcome_of(calibration: Calibration) -> str:
    """What came of a calibration; a machine too noisy to judge by is not called anything else."""
    if not calibration.timings.usable or noise_bucket(calibration.noise) == NOISE[3]:
        return "too-noisy"
    return "fell-back" if calibration.head.kinds.get("speedup") == "bundle" else "kept"


def noise_bucket(noise: float | None) -> str:
    """By how much two timings of the same thing differ here (log units): a bucket."""
    if noise is None:
        return NOISE[4]
    return _bucket(math.expm1(min(noise, WORST_ERROR)), _NOISE_FROM, NOISE)


def known_architecture(level: str) -> str:
    """Coarse instruction set, from the closed list."""
    level = "aarch64" if level == "arm64" else level
    return level if level in ARCHITECTURES else "other"


def compiler_family(used: ToolchainFacts) -> str:
    """The family of the compiler, from the closed list."""
    if used.kind == "prebuilt":
        return "prebuilt"
    return family_of(used.version)


def plain_name(text: object, longest: int) -> str:
    """A bundle's name or version in the letters that reports use: others become ``-``.

    >>> plain_name("tuned (März)", 64)
    'tuned--M-rz-'
    """
    return _NOT_IN_A_NAME.sub("-", str(text))[:longest] or "-"


def iso_week(seconds: float) -> str:
    """The ISO 8601 week of a time (seconds since 1970), in UTC.

    >>> iso_week(1_795_500_000)
    '2026-W48'
    """
    return time.strftime("%G-W%V", time.gmtime(seconds))


def dedupe(secret: bytes, digest: str, week: str) -> str:
    """Under which the centre counts this machine once; 64 hex.

    Others cannot compute it, and those of two weeks or two bundles cannot be told to be of one
    machine.
    """
    return hmac.new(secret, f"{digest} {week}".encode(), hashlib.sha256).hexdigest()


def _rounded_accuracy(found: PredictionAccuracy) -> RoundedAccuracy | None:
    error = _rounded(found.log_error, ERROR_STEP, 0.0, WORST_ERROR)
    if error is None:
        return None
    return RoundedAccuracy(
        speedup_error=error,
        seconds_error=_rounded(found.seconds_log_error, ERROR_STEP, 0.0, WORST_ERROR),
        rank=_rounded(found.spearman, SHARE_STEP, -1.0, 1.0),
        top_pick=_rounded(found.top_share, SHARE_STEP, 0.0, 1.0),
    )


def _rounded(value: float | None, step: float, low: float, high: float) -> float | None:
    """To the nearest multiple of ``step`` within the bounds; None where it is no number."""
    if value is None or not math.isfinite(value):
        return None
    return round(round(min(max(value, low), high) / step) * step, 2) + 0.0  # never -0.0


def _bucket(value: float, begins: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[sum(value >= begin for begin in begins)]


def of_schema_1(report: bytes) -> bytes | None:
    """The same report for a centre that knows schema 1 only; None: it is not of a newer one."""
    body = json.loads(report)
    if body.get("schema") != SCHEMA:
        return None
    return _written({k: v for k, v in body.items() if k not in ADDED} | {"schema": 1})


def relabelled(report: bytes, label: str | None) -> bytes:
    """A report that waited: if it has a label, with the one set now; a no since then holds."""
    body = json.loads(report)
    if body.get("label") in (None, label):
        return report
    del body["label"]
    return _written(body if label is None else {**body, "label": label})


def _written(body: Mapping[str, object]) -> bytes:
    """The one way to write it: sorted keys, no spaces, ASCII."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def weeks_after(week: str, later: str) -> int:
    """How many weeks one ISO week lies after another.

    >>> weeks_after("2026-W53", "2027-W01")
    1
    """
    begin, end = (date.fromisocalendar(int(x[:4]), int(x[6:]), 1) for x in (week, later))
    return (end - begin).days // 7
