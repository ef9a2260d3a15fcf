"""What a person can set once for all commands: the fields of ``Config`` are the table of it.

How each may be written, and what it is for, stands beside it; ``SETTINGS`` is the table by the
names that people use, and docs/reference/configuration.md is made from it. ``resolve`` reads files,
environment and options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, get_type_hints

from agent.settings.files import NAME, SYSTEM_FOLDER
from agent.settings.values import (
    DAY,
    HOUR,
    MAX_BUDGET_S,
    MIN_BUDGET_S,
    MINUTE,
    Reader,
    duration_between,
    in_units,
    number_between,
    one_of,
    parse_command,
    parse_label,
    parse_path,
    parse_string,
    parse_switch,
)

SYSTEM_STATE = Path("/var/lib") / NAME  # of the system's service
SITE_ROOT = SYSTEM_FOLDER / "root.json"
CHANNELS = ("pilot", "stable")  # pilots take new bundles first
_LONGEST_S = 3650 * DAY
_SECONDS = "_s"  # ends the name of a field in seconds; people write a unit with the value


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set.

    Attributes:
        read: text to value; ``write``: a default as it would be written.
        values: what may be written, in words.
        words: what it is for.
        option: of commands, where another than ``--name``.
        natural: the types of TOML besides text that it may be written in.
        path: a file may not give it relative to wherever the agent is started.
        no_stands: once it is no, a later yes is not heard.
        field: its name in ``Config``.
        default: as it would be written; empty: as ``words`` say.
    """

    read: Reader
    write: Callable[[object], str]
    values: str
    words: str
    option: str = ""
    natural: tuple[type, ...] = ()
    path: bool = False
    no_stands: bool = False
    field: str = ""
    default: str = ""

    @property
    def name(self) -> str:
        """Its key in files."""
        return self.field.removesuffix(_SECONDS)

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"AGENT_{self.name.upper()}"


def _path(words: str, option: str = "") -> Setting:
    return Setting(parse_path, str, "a path", words, option, path=True)


def _text(values: str, words: str, option: str = "") -> Setting:
    return Setting(parse_string, str, values, words, option)


def _duration(least: float, most: float, words: str) -> Setting:
    values = f"a duration from {in_units(least)} to {in_units(most)}"
    read = duration_between(least, most)
    return Setting(read, _in_units, values, words, natural=(int, float))


def _in_units(seconds: object) -> str:
    return in_units(float(str(seconds)))


def _number(least: float, most: float, words: str) -> Setting:
    values, read = f"a number from {least:g} to {most:g}", number_between(least, most)
    return Setting(read, "{:g}".format, values, words, natural=(int, float))


def _switch(words: str, *, no_stands: bool = False) -> Setting:
    values = "yes or no"
    return Setting(parse_switch, _yes_or_no, values, words, natural=(bool,), no_stands=no_stands)


def _yes_or_no(value: object) -> str:
    return "yes" if value else "no"


def _choice(choices: tuple[str, ...], words: str) -> Setting:
    return Setting(one_of(choices), str, " or ".join(choices), words)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one command: what each is for is said beside it.

    None: as its words say. Durations are in seconds, shares from 0 to 1.
    """

    state_dir: Annotated[
        Path,
        _path(
            "Where timings, calibrations and compiled code are kept. Default: `STATE_DIRECTORY` "
            "(set by systemd); for root the service's `/var/lib/calibration-agent` where there is "
            "one; else `$XDG_STATE_HOME/calibration-agent` (`~/.local/state/calibration-agent`).",
        ),
    ]
    bundle: Annotated[
        Path | None,
        _path("A bundle's directory. Default: the bundle in force on this machine."),
    ] = None
    compiler: Annotated[
        str | None,
        _text(
            "a name, a path, or prebuilt",
            "The C compiler. Default: `$CC`, else the first of cc, gcc, clang, else the prebuilt "
            "set.",
        ),
    ] = None
    budget_s: Annotated[
        float, _duration(MIN_BUDGET_S, MAX_BUDGET_S, "How long a calibration may measure.")
    ] = 45.0
    repository: Annotated[
        str | None,
        _text(
            "a URL or a directory",
            "Where bundles come from: the centre's https URL, or a directory. Default: nowhere.",
            option="--from",
        ),
    ] = None
    channel: Annotated[
        str,
        _choice(
            CHANNELS, "Which bundles this machine takes; machines on pilot take new ones first."
        ),
    ] = "stable"
    trusted_root: Annotated[
        Path,
        _path("The centre's root.json: whose signatures count. Placed by the site.", "--root"),
    ] = SITE_ROOT
    max_age_s: Annotated[
        float,
        _duration(HOUR, _LONGEST_S, "A calibration older than this is due to be made again."),
    ] = 30 * DAY
    check_every_s: Annotated[
        float,
        _duration(
            10 * MINUTE, _LONGEST_S, "How often it is checked whether the calibration still holds."
        ),
    ] = DAY
    quiet_wait_s: Annotated[
        float,
        _duration(1.0, DAY, "How long `--when-quiet` waits for the machine to be quiet."),
    ] = 20 * MINUTE
    max_busy: Annotated[
        float,
        _number(
            0.0,
            1.0,
            "The share of the CPUs that other programs may use while the machine counts as quiet.",
        ),
    ] = 0.15
    max_steal: Annotated[
        float,
        _number(
            0.0,
            1.0,
            "The share of the CPUs' time that the host of a virtual machine may take while it "
            "counts as quiet.",
        ),
    ] = 0.03
    max_temperature: Annotated[
        float,
        _number(
            20.0,
            150.0,
            "The CPU temperature in degrees Celsius above which it is too hot to be measured.",
        ),
    ] = 85.0
    on_battery: Annotated[
        bool, _switch("Whether to measure while the machine runs on its battery.")
    ] = False
    on_problem: Annotated[
        tuple[str, ...] | None,
        Setting(
            parse_command,
            str,
            "a command",
            "What `agent notify` runs when somebody has to do something, once for each new "
            "problem: a program by its whole path, and its arguments. Default: nothing.",
        ),
    ] = None
    report: Annotated[
        bool | None,
        _switch(
            "Whether aggregates (no timing, and no name but `report_label`) are reported to the "
            "centre. Default: the machine's own decision, `agent report enable`; else not. A `no` "
            "anywhere stands: neither a later file nor `enable` turns it into a yes.",
            no_stands=True,
        ),
    ] = None
    report_to: Annotated[
        str | None, _text("an https URL", "Where reports are sent. Default: nowhere.")
    ] = None
    report_token_file: Annotated[
        Path | None, _path("A file with the token that the centre gave out, if it asks one.")
    ] = None
    report_label: Annotated[
        str | None,
        Setting(
            parse_label,
            str,
            "1 to 32 letters, digits, . _ -",
            "A name for this machine that its reports carry, so that the staff of the centre "
            "see it by itself. Default: none, and nothing in a report names a machine.",
        ),
    ] = None
    report_client_cert: Annotated[
        Path | None, _path("A client certificate (PEM), if the centre asks for one.")
    ] = None
    report_client_key: Annotated[
        Path | None, _path("Its private key (PEM), where that is a file of its own.")
    ] = None


def _table() -> dict[str, Setting]:
    hints = get_type_hints(Config, include_extras=True)
    found = (_named(part, hints[part.name].__metadata__[0]) for part in fields(Config))
    return {setting.name: setting for setting in found}


def _named(part: Field[object], setting: Setting) -> Setting:
    default = "" if part.default in (MISSING, None) else setting.write(part.default)
    return replace(setting, field=part.name, default=default)


SETTINGS = _table()  # by the name that people use
