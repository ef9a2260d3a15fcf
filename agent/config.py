"""What a person can set once for all commands: files, then the environment, then flags.

    /etc/calibration-agent/config.toml
    $XDG_CONFIG_HOME/calibration-agent/config.toml     (default ~/.config)
    STATE_DIRECTORY (systemd), AGENT_STATE_DIR, AGENT_BUNDLE, AGENT_COMPILER, AGENT_BUDGET,
    AGENT_REPOSITORY, AGENT_CHANNEL, AGENT_TRUSTED_ROOT
    --state-dir, --bundle, --compiler, --budget, --from, --root

Later ones win. A file holds any of ``KEYS``.
``AGENT_CONFIG=FILE`` replaces the two files (empty: no file at all).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConfigError, InputError

NAME = "calibration-agent"
SYSTEM_FILE = Path("/etc") / NAME / "config.toml"
KEYS = ("state_dir", "bundle", "compiler", "budget", "repository", "channel", "trusted_root")
SITE_ROOT = SYSTEM_FILE.with_name("root.json")
CHANNELS = ("pilot", "stable")  # pilots take new bundles first
DEFAULT_CHANNEL = "stable"
MAX_FILE_BYTES = 64 << 10
DEFAULT_BUDGET_S = 45.0
MIN_BUDGET_S, MAX_BUDGET_S = 2.0, 3600.0
MAX_SIZE = 1 << 24
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one command.

    Attributes:
        state_dir: where timings, calibrations and compiled code are kept.
        bundle: a bundle's directory; None: the one that ships with the agent.
        compiler: a C compiler; None: the one that is found.
        budget_s: seconds a calibration may take.
        repository: URL or directory that bundles come from; None: nowhere.
        channel: ``stable``, or ``pilot`` on machines that take new bundles first.
        trusted_root: the file that says whose signatures count; placed by the site.
    """

    state_dir: Path
    bundle: Path | None = None
    compiler: str | None = None
    budget_s: float = DEFAULT_BUDGET_S
    repository: str | None = None
    channel: str = DEFAULT_CHANNEL
    trusted_root: Path = SITE_ROOT


def load(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Config:
    """The settings from files, ``environment`` and ``flags`` (None: not given), later ones winning.

    Raises:
        ConfigError: a file cannot be read or holds something unknown.
        InputError: the budget is not a duration, or the channel is unknown.
    """
    values: dict[str, str] = {}
    for path in _files(environment):
        values |= _read(path)
    if systemd := environment.get("STATE_DIRECTORY"):
        values["state_dir"] = systemd.split(":", maxsplit=1)[0]
    names = {key: f"AGENT_{key.upper()}" for key in KEYS}
    values |= {key: environment[name] for key, name in names.items() if environment.get(name)}
    values |= {key: value for key, value in flags.items() if value is not None}
    budget = values.get("budget")
    channel = values.get("channel") or DEFAULT_CHANNEL
    if channel not in CHANNELS:
        known = " or ".join(CHANNELS)
        raise InputError(f"there is no channel {channel!r}", f"Set channel to {known}.")
    return Config(
        state_dir=Path(values["state_dir"]).expanduser()
        if values.get("state_dir")
        else _xdg(environment, "XDG_STATE_HOME", ".local/state"),
        bundle=Path(values["bundle"]).expanduser() if values.get("bundle") else None,
        compiler=values.get("compiler") or None,
        budget_s=DEFAULT_BUDGET_S if budget is None else parse_duration(budget),
        repository=values.get("repository") or None,
        channel=channel,
        trusted_root=Path(values.get("trusted_root") or SITE_ROOT).expanduser(),
    )


def parse_duration(text: str) -> float:
    """Seconds in ``20``, ``20s``, ``2m``, ``1m30s`` or ``1h``; InputError for anything else."""
    words = text.strip().lower()
    if len(words) > 40 or not re.fullmatch(r"[\d.]+|([\d.]+(h|min|m|s)\s*)+", words):
        raise InputError(f"--budget {text!r} is not a duration", "Write 20s, 2m or 1m30s.")
    parts = re.findall(r"([\d.]+)([a-z]*)", words)
    try:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    except ValueError as error:
        hint = "Write 20s, 2m or 1m30s."
        raise InputError(f"--budget {text!r} is not a duration", hint) from error
    if not MIN_BUDGET_S <= seconds <= MAX_BUDGET_S:
        limits = f"{MIN_BUDGET_S:g} s and {MAX_BUDGET_S / 60:g} min"
        raise InputError(f"--budget {text!r} is not between {limits}", "The default is 45s.")
    return seconds


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """``["ni=512", "nj=64"]`` as a mapping; InputError where one is malformed or named twice."""
    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not (name.isascii() and name.isidentifier()):
            raise InputError(f"--size {text!r} is not NAME=NUMBER", "Write --size ni=512.")
        if not (value.isascii() and value.isdigit()) or not 1 <= int(value[:12]) <= MAX_SIZE:
            raise InputError(
                f"--size {text!r}: {value!r} is not a number from 1 to {MAX_SIZE}",
                "Write --size ni=512.",
            )
        if name in sizes:
            raise InputError(f"--size {name} is given twice", "Give each size one value.")
        sizes[name] = int(value)
    return sizes


def _xdg(environment: Mapping[str, str], name: str, below_home: str) -> Path:
    """Our directory below one of XDG's; a relative one is ignored, as the specification asks."""
    base = Path(environment.get(name) or "")
    if not base.is_absolute():
        base = Path(environment.get("HOME") or "~").expanduser() / below_home
    return base / NAME


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    if (named := environment.get("AGENT_CONFIG")) is not None:
        if named:
            yield Path(named)
        return
    person = _xdg(environment, "XDG_CONFIG_HOME", ".config") / "config.toml"
    yield from (path for path in (SYSTEM_FILE, person) if path.exists())


def _read(path: Path) -> dict[str, str]:
    import tomllib

    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "Correct or remove the file.") from error
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        data = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for key, value in data.items():
        if key not in KEYS:
            raise ConfigError(f"{path}: unknown setting {key!r}", "Known: " + ", ".join(KEYS) + ".")
        if not isinstance(value, str):
            raise ConfigError(f"{path}: {key} is not text", f'Write {key} = "...".')
    return data
