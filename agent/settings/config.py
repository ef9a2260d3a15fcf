"""What a person can set once for all commands: files, then the environment, then options.

    /etc/calibration-agent/config.toml, then /etc/calibration-agent/conf.d/*.toml in name order
    $XDG_CONFIG_HOME/calibration-agent/config.toml, conf.d/*.toml     (default ~/.config)
    STATE_DIRECTORY (systemd), AGENT_STATE_DIR, AGENT_BUNDLE, ... (AGENT_ and the setting's name)
    --state-dir, --bundle, --compiler, --budget, --from, --root, --channel

Later ones win; an empty text stands for the default. ``SETTINGS`` is the one table of what can be
set; docs/reference/configuration.md is made from it. ``AGENT_CONFIG=FILE`` replaces all the files
(empty: no file at all). Everything that is given is checked, also what a later one overrides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, InputError
from agent.settings.files import NAME as NAME
from agent.settings.files import SYSTEM_FOLDER, config_files, read_file, xdg
from agent.settings.values import (
    DAY,
    HOUR,
    MAX_BUDGET_S,
    MIN_BUDGET_S,
    MINUTE,
    Reader,
    duration_between,
    in_units,
    meant,
    number_between,
    one_of,
    parse_path,
    parse_switch,
    parse_text,
)
from agent.settings.values import parse_duration as parse_duration
from agent.settings.values import parse_sizes as parse_sizes

SYSTEM_FILE = SYSTEM_FOLDER / "config.toml"
SYSTEM_STATE = Path("/var/lib") / NAME  # of the system's service
SITE_ROOT = SYSTEM_FOLDER / "root.json"
CHANNELS = ("pilot", "stable")  # pilots take new bundles first
DEFAULT_CHANNEL = "stable"
DEFAULT_BUDGET_S = 45.0
_LONGEST_S = 3650 * DAY


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set.

    Attributes:
        name: its key in files; ``AGENT_`` and the name in capitals in the environment.
        default: as it would be written; empty: as ``words`` say.
        read: text to value.
        values: what may be written, in words.
        words: what it is for.
        field: its name in ``Config``, where another.
        option: of commands, where another than ``--name``.
        natural: the types of TOML besides text that it may be written in.
        path: a file may not give it relative to wherever the agent is started.
        no_stands: once it is no, a later yes is not heard.
    """

    name: str
    default: str
    read: Reader
    values: str
    words: str
    field: str = ""
    option: str = ""
    natural: tuple[type, ...] = ()
    path: bool = False
    no_stands: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"AGENT_{self.name.upper()}"


def _path(name: str, words: str, default: str = "", option: str = "") -> Setting:
    return Setting(name, default, parse_path, "a path", words, option=option, path=True)


def _text(name: str, values: str, words: str, option: str = "") -> Setting:
    return Setting(name, "", parse_text, values, words, option=option)


def _duration(name: str, default: str, least: float, most: float, words: str) -> Setting:
    values = f"a duration from {in_units(least)} to {in_units(most)}"
    read = duration_between(least, most)
    return Setting(name, default, read, values, words, field=f"{name}_s", natural=(int, float))


def _number(name: str, default: str, least: float, most: float, words: str) -> Setting:
    values, read = f"a number from {least:g} to {most:g}", number_between(least, most)
    return Setting(name, default, read, values, words, natural=(int, float))


def _switch(name: str, default: str, words: str, *, no_stands: bool = False) -> Setting:
    values = "yes or no"
    return Setting(name, default, parse_switch, values, words, natural=(bool,), no_stands=no_stands)


def _choice(name: str, default: str, choices: tuple[str, ...], words: str) -> Setting:
    return Setting(name, default, one_of(choices), " or ".join(choices), words)


SETTINGS: tuple[Setting, ...] = (
    _path(
        "state_dir",
        "Where timings, calibrations and compiled code are kept. Default: `STATE_DIRECTORY` "
        "(set by systemd); for root the service's `/var/lib/calibration-agent` where there is one; "
        "else `$XDG_STATE_HOME/calibration-agent` (`~/.local/state/calibration-agent`).",
    ),
    _path("bundle", "A bundle's directory. Default: the bundle in force on this machine."),
    _text(
        "compiler",
        "a name, a path, or prebuilt",
        "The C compiler. Default: `$CC`, else the first of cc, gcc, clang, else the prebuilt set.",
    ),
    _duration("budget", "45s", MIN_BUDGET_S, MAX_BUDGET_S, "How long a calibration may measure."),
    _text(
        "repository",
        "a URL or a directory",
        "Where bundles come from: the centre's https URL, or a directory. Default: nowhere.",
        option="--from",
    ),
    _choice(
        "channel",
        DEFAULT_CHANNEL,
        CHANNELS,
        "Which bundles this machine takes; machines on pilot take new ones first.",
    ),
    _path(
        "trusted_root",
        "The centre's root.json: whose signatures count. Placed by the site.",
        str(SITE_ROOT),
        "--root",
    ),
    _duration(
        "max_age", "30d", HOUR, _LONGEST_S, "A calibration older than this is due to be made again."
    ),
    _duration(
        "check_every",
        "1d",
        10 * MINUTE,
        _LONGEST_S,
        "How often it is checked whether the calibration still holds.",
    ),
    _duration(
        "quiet_wait", "20m", 1.0, DAY, "How long `--when-quiet` waits for the machine to be quiet."
    ),
    _number(
        "max_busy",
        "0.15",
        0.0,
        1.0,
        "The share of the CPUs that other programs may use while the machine counts as quiet.",
    ),
    _number(
        "max_steal",
        "0.03",
        0.0,
        1.0,
        "The share of the CPUs' time that the host of a virtual machine may take while it counts "
        "as quiet.",
    ),
    _number(
        "max_temperature",
        "85",
        20.0,
        150.0,
        "The temperature in degrees Celsius above which the machine is too hot to be measured.",
    ),
    _switch("on_battery", "no", "Whether to measure while the machine runs on its battery."),
    _switch(
        "report",
        "",
        "Whether aggregates (never timings, names or identities) are reported to the centre. "
        "Default: the machine's own decision, `agent report enable`; else not. A `no` anywhere "
        "stands: neither a later file nor `enable` turns it into a yes.",
        no_stands=True,
    ),
    _text("report_to", "an https URL", "Where reports are sent. Default: nowhere."),
    _path("report_token_file", "A file with the token that the centre gave out, if it asks one."),
    _path("report_client_cert", "A client certificate (PEM), if the centre asks for one."),
    _path("report_client_key", "Its private key (PEM), where that is a file of its own."),
)
KEYS = tuple(setting.name for setting in SETTINGS)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one command.

    Attributes:
        state_dir: where timings, calibrations and compiled code are kept.
        bundle: a bundle's directory; None: the one in force.
        compiler: a C compiler or ``prebuilt``; None: the one that is found.
        budget_s: seconds a calibration may take.
        repository: URL or directory that bundles come from; None: nowhere.
        channel: ``stable``, or ``pilot`` on machines that take new bundles first.
        trusted_root: the file that says whose signatures count; placed by the site.
        max_age_s: seconds after which a calibration is due again.
        check_every_s: seconds between checks for drift.
        quiet_wait_s: seconds that ``--when-quiet`` waits.
        max_busy: share of the CPUs (0 to 1) that others may use on a quiet machine.
        max_steal: share of their time (0 to 1) that a host may take on a quiet machine.
        max_temperature: of a machine that may be measured, in degrees Celsius.
        on_battery: measure also without AC power.
        report: whether aggregates are reported to ``report_to``, a URL; None: the machine decides.
        report_token_file, report_client_cert, report_client_key: how the centre knows us.
    """

    state_dir: Path
    bundle: Path | None = None
    compiler: str | None = None
    budget_s: float = DEFAULT_BUDGET_S
    repository: str | None = None
    channel: str = DEFAULT_CHANNEL
    trusted_root: Path = SITE_ROOT
    max_age_s: float = 30 * DAY
    check_every_s: float = DAY
    quiet_wait_s: float = 20 * MINUTE
    max_busy: float = 0.15
    max_steal: float = 0.03
    max_temperature: float = 85.0
    on_battery: bool = False
    report: bool | None = None
    report_to: str | None = None
    report_token_file: Path | None = None
    report_client_cert: Path | None = None
    report_client_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """A value as someone wrote it.

    Attributes:
        key: the setting's name.
        value: the text (of numbers and booleans: as TOML writes them).
        kind: ``default``, ``file``, ``environment`` or ``option``.
        origin: the file, variable or option; empty for defaults.
        line: in the file, where known.
    """

    key: str
    value: str
    kind: str
    origin: str = ""
    line: int | None = None

    def __str__(self) -> str:
        return self.origin if self.line is None else f"{self.origin}:{self.line}"


@dataclass(frozen=True)
class Resolved:
    """Everything that is set, and every mistake in it.

    Attributes:
        values: of all ``KEYS``, read; where one is wrong, the one before it counts.
        given: where each of them comes from.
        problems: the mistakes, in the order they are met.
        files: that were looked into, or should have been.
    """

    values: Mapping[str, Any]
    given: Mapping[str, Given]
    problems: tuple[ConfigError | InputError, ...] = ()
    files: tuple[Path, ...] = field(default=())

    @property
    def config(self) -> Config:
        """What can be used of it, problems or not."""
        return Config(**{_BY_NAME[key].field or key: self.values[key] for key in KEYS})


def load(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Config:
    """The settings from files, ``environment`` and ``flags`` (None: not given), later ones winning.

    Raises:
        ConfigError: a file cannot be read, or holds something unknown or wrong.
        InputError: a variable or an option is wrong.
    """
    resolved = resolve(environment, flags)
    for problem in resolved.problems:
        raise problem
    return resolved.config


def resolve(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Resolved:
    """Every setting with where it comes from, and every mistake; nothing is raised."""
    problems: list[ConfigError | InputError] = []
    files, unlisted = config_files(environment)
    problems += unlisted
    given = {s.name: Given(s.name, s.default, "default") for s in SETTINGS}
    given["state_dir"] = _default_state(environment)
    values = {key: _read(first) for key, first in given.items()}
    for layer in (_from_files(files, problems), _from_environment(environment), _from_flags(flags)):
        for one in layer:
            try:
                known = one if one.value else _default(one, environment)
                value = _read(known)
                if not (_BY_NAME[one.key].no_stands and values[one.key] is False):
                    values[one.key], given[one.key] = value, replace(one, value=known.value)
            except (ConfigError, InputError) as error:
                problems.append(error)
    return Resolved(values, given, tuple(problems), files)


def _default(empty: Given, environment: Mapping[str, str]) -> Given:
    if empty.kind == "option":  # as of a shell's variable that was not set
        raise InputError(f"{empty} is given without a value", "Give it one, or leave it out.")
    if empty.key == "state_dir":
        return _default_state(environment)
    return Given(empty.key, _BY_NAME[empty.key].default, "default")


def _default_state(environment: Mapping[str, str]) -> Given:
    """The person's own directory; for root the service's, so that both work with the same."""
    place = xdg(environment, "XDG_STATE_HOME", ".local/state")
    if os.geteuid() == 0 and "XDG_STATE_HOME" not in environment and SYSTEM_STATE.is_dir():
        place = SYSTEM_STATE
    return Given("state_dir", str(place), "default")


def _read(given: Given) -> Any:
    """The value of what is written; None for an empty text; ConfigError or InputError."""
    setting = _BY_NAME[given.key]
    if not given.value:
        return None
    what = str(given) if given.kind == "option" else f"{given}: {given.key}"
    try:
        parse_text(given.value, what)
        if setting.path and given.kind == "file" and given.value[0] not in "/~":
            hint = "Write the whole path, from / on: commands run in any directory."
            raise InputError(f"{what} {given.value!r} is a relative path", hint)
        return setting.read(given.value, what)
    except InputError as error:
        if given.kind != "file":
            raise
        raise ConfigError(error.message, error.hint) from error


def _from_files(
    files: tuple[Path, ...], problems: list[ConfigError | InputError]
) -> Iterator[Given]:
    for path in files:
        try:
            found = read_file(path)
        except ConfigError as error:
            problems.append(error)
            continue
        for key, (value, line) in found.items():
            place = Given(key, "", "file", str(path), line)
            try:
                yield Given(key, _as_text(place, value), "file", str(path), line)
            except ConfigError as error:
                problems.append(error)


def _as_text(given: Given, value: object) -> str:
    """A value of TOML as text; ConfigError where the key is unknown or the type is another."""
    setting = _BY_NAME.get(given.key)
    if setting is None:
        known = "Known: " + ", ".join(KEYS) + "."
        hint = meant(given.key, KEYS) + known
        raise ConfigError(f"{given}: unknown setting {given.key[:80]!r}", hint)
    if isinstance(value, str):
        return value
    if type(value) not in setting.natural:
        how = "true or false" if setting.natural == (bool,) else f'"...": {setting.values}'
        raise ConfigError(
            f"{given}: {given.key} is not {setting.values}", f"Write {given.key} = {how}."
        )
    return str(value)


def _from_environment(environment: Mapping[str, str]) -> Iterator[Given]:
    if systemd := environment.get("STATE_DIRECTORY"):
        first = systemd.split(":", maxsplit=1)[0]
        yield Given("state_dir", first, "environment", "STATE_DIRECTORY")
    for setting in SETTINGS:
        if value := environment.get(setting.variable):
            yield Given(setting.name, value, "environment", setting.variable)


def _from_flags(flags: Mapping[str, str | None]) -> Iterator[Given]:
    for key, value in flags.items():
        if value is not None:
            option = _BY_NAME[key].option or f"--{key.replace('_', '-')}"
            yield Given(key, value, "option", option)
