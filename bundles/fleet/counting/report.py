"""One report of one machine: bytes from anywhere in, a checked record or a refusal out.

The shape is docs/reference/schemas/report-payload.json; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from bundles.fleet.counting import weeks

MAX_BYTES: Final = 2048
ERROR_STEP, SHARE_STEP = 0.02, 0.05
MAX_ERROR: Final = 5.0

Channel = Literal["pilot", "stable", "none"]
Architecture = Literal["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64", "other"]
Toolchain = Literal["gcc", "clang", "prebuilt", "other"]
Timings = Literal["0", "1-15", "16-31", "32-47", "48+"]
Noise = Literal["under-1%", "1-3%", "3-10%", "over-10%", "unknown"]
Outcome = Literal["kept", "fell-back", "refused", "too-noisy"]
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9._+-]{1,64}$")]
Version = Annotated[str, Meta(pattern="^[A-Za-z0-9._+-]{1,32}$")]
Error = Annotated[float, Meta(ge=0, le=MAX_ERROR)]

CHANNELS: Final[tuple[str, ...]] = get_args(Channel)
ARCHITECTURES: Final[tuple[str, ...]] = get_args(Architecture)
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "toolchain": get_args(Toolchain), "timings": get_args(Timings), "noise": get_args(Noise),
}  # fmt: skip


class Refusal(Exception):  # noqa: N818  an answer, not an error of ours
    """A report that is not taken, now or ever.

    Attributes:
        status: of the HTTP answer.
        code: one word for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Accuracy(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How well one way to predict did on one machine."""

    speedup_error: Error
    seconds_error: Error | None
    rank: Annotated[float, Meta(ge=-1, le=1)] | None
    top_pick: Annotated[float, Meta(ge=0, le=1)] | None


class Report(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What one machine says of one bundle in one week."""

    schema: Literal[1]
    agent: Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){1,3}[a-z0-9.+-]{0,16}$")]
    bundle: Name
    bundle_version: Version
    channel: Channel
    week: Annotated[str, Meta(pattern="^20[2-9][0-9]-W(0[1-9]|[1-4][0-9]|5[0-3])$")]
    architecture: Architecture
    toolchain: Toolchain
    timings: Timings
    noise: Noise
    calibrated: Accuracy | None
    bundle_alone: Accuracy | None
    outcome: Outcome
    dedupe: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


_DECODER: Final = msgspec.json.Decoder(Report)


def parse(body: bytes) -> Report:
    """The report in ``body``.

    Raises:
        Refusal: 413 too long, 400 no JSON, 422 JSON that is no report of schema 1.
    """
    if len(body) > MAX_BYTES:
        raise Refusal(413, "too-large", f"a report has at most {MAX_BYTES} bytes")
    try:
        report = _DECODER.decode(body)
        weeks.parse(report.week)
    except msgspec.ValidationError as error:
        raise Refusal(422, "not-a-report", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "not-json", "the body is not JSON") from error
    except ValueError as error:  # a week 53 in a year of 52
        raise Refusal(422, "not-a-report", str(error)) from error
    if b"\\" in body:  # no character of a report needs it; hides a line's end from a pattern's `$`
        raise Refusal(422, "not-a-report", "a report has no escapes")
    return report


def row(report: Report) -> dict[str, Any]:
    """A report as it is kept until it is released: whole numbers (bins), and nothing of ``dedupe``.

    Bins are rounded here again: a machine that says more than it should is not listened to.
    """
    return {
        "week": weeks.parse(report.week),
        "bundle": report.bundle,
        "version": report.bundle_version,
        "channel": report.channel,
        "architecture": report.architecture,
        "outcome": report.outcome,
        **_accuracies(report),
        **{name: known.index(getattr(report, name)) for name, known in LABELS.items()},
    }


def _accuracies(report: Report) -> dict[str, int | None]:
    calibrated = _bins("calibrated", report.calibrated)
    alone = _bins("alone", report.bundle_alone)
    mine, other = calibrated["calibrated_speedup"], alone["alone_speedup"]
    used = {"kept": mine, "fell-back": other}.get(report.outcome)
    gain = None if mine is None or other is None else other - mine
    return {**calibrated, **alone, "used": used, "gain": gain}


def _bins(way: str, accuracy: Accuracy | None) -> dict[str, int | None]:
    steps = {"speedup": ERROR_STEP, "seconds": ERROR_STEP, "rank": SHARE_STEP, "top": SHARE_STEP}
    if accuracy is None:
        return dict.fromkeys((f"{way}_{name}" for name in steps), None)
    values = (accuracy.speedup_error, accuracy.seconds_error, accuracy.rank, accuracy.top_pick)
    return {
        f"{way}_{name}": None if value is None else round(value / step)
        for (name, step), value in zip(steps.items(), values, strict=True)
    }
