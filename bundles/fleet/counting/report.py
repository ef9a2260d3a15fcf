"""One report of one machine: bytes from anywhere in, a checked record or a refusal out.

Lists and limits are those by which agents make a report (``agent.report.payload``). The shape is
docs/reference/schemas/report-payload.json; a test holds the two against each other.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent.report.payload import (
    ERROR_STEP,
    LONGEST_NAME,
    LONGEST_VERSION,
    MAX_BYTES,
    NOISE,
    SHARE_STEP,
    TIMINGS,
    TOOLCHAINS,
    WORST_ERROR,
    Architecture,
    Channel,
    CompilerFamily,
    NoiseBucket,
    Outcome,
    TimingsBucket,
)
from agent.settings.values import LABEL
from bundles.fleet.counting import weeks

Name = Annotated[str, Meta(pattern=f"^[A-Za-z0-9._+-]{{1,{LONGEST_NAME}}}$")]
Version = Annotated[str, Meta(pattern=f"^[A-Za-z0-9._+-]{{1,{LONGEST_VERSION}}}$")]
Label = Annotated[str, Meta(pattern=f"^{LABEL}$")]
Error = Annotated[float, Meta(ge=0, le=WORST_ERROR)]
LABELS: Final = {"toolchain": TOOLCHAINS, "timings": TIMINGS, "noise": NOISE}


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
    """What one machine says of one bundle in one week.

    Schema 2 added ``first`` (it told of this bundle the last time twelve weeks ago, or never) and
    ``label``.
    """

    schema: Literal[1, 2]
    agent: Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){1,3}[a-z0-9.+-]{0,16}$")]
    bundle: Name
    bundle_version: Version
    channel: Channel
    week: Annotated[str, Meta(pattern="^20[2-9][0-9]-W(0[1-9]|[1-4][0-9]|5[0-3])$")]
    architecture: Architecture
    toolchain: CompilerFamily
    timings: TimingsBucket
    noise: NoiseBucket
    calibrated: Accuracy | None
    bundle_alone: Accuracy | None
    outcome: Outcome
    dedupe: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    first: bool = False
    label: Label | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(Report)


def parse_report(body: bytes) -> Report:
    """The report in ``body``.

    Raises:
        Refusal: 413 too long, 400 no JSON, 422 JSON that is no report of schema 1 or 2.
    """
    if len(body) > MAX_BYTES:
        raise Refusal(413, "too-large", f"a report has at most {MAX_BYTES} bytes")
    try:
        report = _DECODER.decode(body)
        weeks.parse_week(report.week)
    except msgspec.ValidationError as error:
        raise Refusal(422, "not-a-report", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "not-json", "the body is not JSON") from error
    except ValueError as error:  # a week 53 in a year of 52
        raise Refusal(422, "not-a-report", str(error)) from error
    if b"\\" in body:  # no character of a report needs it; hides a line's end from a pattern's `$`
        raise Refusal(422, "not-a-report", "a report has no escapes")
    return report


def pending_row(
    report: Report, labelled: frozenset[str] = frozenset()
) -> dict[str, str | int | None]:
    """A report as it is kept until it is released: whole numbers (bins), and nothing of ``dedupe``.

    Bins are rounded here again: a machine that says more than it should is not listened to.

    Args:
        report: the report.
        labelled: labels of machines that are shown by themselves.
    """
    return {
        "labelled": report.label in labelled,
        "week": weeks.parse_week(report.week),
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
