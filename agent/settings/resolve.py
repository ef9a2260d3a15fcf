"""Where each setting comes from: files, then the environment, then options.

    /etc/calibration-agent/config.toml, then /etc/calibration-agent/conf.d/*.toml in name order
    $XDG_CONFIG_HOME/calibration-agent/config.toml, conf.d/*.toml     (default ~/.config)
    STATE_DIRECTORY (systemd), AGENT_STATE_DIR, AGENT_BUNDLE, ... (AGENT_ and the setting's name)
    --state-dir, --bundle, --compiler, --budget, --from, --root, --channel

Later ones win; an empty text stands for the default. ``AGENT_CONFIG=FILE`` replaces all the files
(empty: no file at all). Everything that is given is checked, also what a later one overrides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.errors import ConfigError, InputError
from agent.settings.config import SETTINGS, SYSTEM_STATE, Config
from agent.settings.files import config_files, read_settings, xdg
from agent.settings.values import meant, parse_string

Mistake = ConfigError | InputError
Kind = Literal["default", "file", "environment", "option"]


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
    kind: Kind
    origin: str = ""
    line: int | None = None

    def __str__(self) -> str:
        return self.origin if self.line is None else f"{self.origin}:{self.line}"


@dataclass(frozen=True)
class Resolved:
    """Everything that is set, and every mistake in it.

    Attributes:
        values: of all ``SETTINGS``, read; where one is wrong, the one before it counts.
        given: where each of them comes from.
        problems: the mistakes, in the order they are met.
        files: that were looked into, or should have been.
    """

    values: Mapping[str, object]
    given: Mapping[str, Given]
    problems: tuple[Mistake, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def config(self) -> Config:
        """What can be used of it, problems or not."""
        values = {setting.field: self.values[name] for name, setting in SETTINGS.items()}
        return Config(**values)  # type: ignore[arg-type]  # each was read by its own reader


def load_config(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Config:
    """The settings from files, ``environment`` and ``flags`` (None: not given), later ones winning.

    Raises:
        ConfigError: a file cannot be read, or holds something unknown or wrong.
        InputError: a variable or an option is wrong.
    """
    resolved = resolve_config(environment, flags)
    for problem in resolved.problems:
        raise problem
    return resolved.config


def resolve_config(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Resolved:
    """Every setting with where it comes from, and every mistake; nothing is raised."""
    problems: list[Mistake] = []
    files, unlisted = config_files(environment)
    problems += unlisted
    given = {name: Given(name, setting.default, "default") for name, setting in SETTINGS.items()}
    given["state_dir"] = _default_state(environment)
    values = {key: _read(first) for key, first in given.items()}
    for layer in (_from_files(files, problems), _from_environment(environment), _from_flags(flags)):
        for one in layer:
            try:
                known = one if one.value else _default(one, environment)
                value = _read(known)
                if not (SETTINGS[one.key].no_stands and values[one.key] is False):
                    values[one.key], given[one.key] = value, replace(one, value=known.value)
            except (ConfigError, InputError) as error:
                problems.append(error)
    return Resolved(values, given, tuple(problems), files)


def _default(empty: Given, environment: Mapping[str, str]) -> Given:
    if empty.kind == "option":  # as of a shell's variable that was not set
        raise InputError(f"{empty} is given without a value", "Give it one, or leave it out.")
    if empty.key == "state_dir":
        return _default_state(environment)
    return Given(empty.key, SETTINGS[empty.key].default, "default")


def _default_state(environment: Mapping[str, str]) -> Given:
    """The person's own directory; for root the service's, so that both work with the same."""
    place = xdg(environment, "XDG_STATE_HOME", ".local/state")
    if os.geteuid() == 0 and "XDG_STATE_HOME" not in environment and SYSTEM_STATE.is_dir():
        place = SYSTEM_STATE
    return Given("state_dir", str(place), "default")


def _read(given: Given) -> object:
    """The value of what is written; None for an empty text; ConfigError or InputError."""
    setting = SETTINGS[given.key]
    if not given.value:
        return None
    what = str(given) if given.kind == "option" else f"{given}: {given.key}"
    try:
        parse_string(given.value, what)
        if setting.path and given.kind == "file" and given.value[0] not in "/~":
            hint = "Write the whole path, from / on: commands run in any directory."
            raise InputError(f"{what} {given.value!r} is a relative path", hint)
        return setting.read(given.value, what)
    except InputError as error:
        if given.kind != "file":
            raise
        raise ConfigError(error.message, error.hint) from error


def _from_files(files: tuple[Path, ...], problems: list[Mistake]) -> Iterator[Given]:
    for path in files:
        try:
            found = read_settings(path)
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
    setting = SETTINGS.get(given.key)
    if setting is None:
        hint = meant(given.key, tuple(SETTINGS)) + "Known: " + ", ".join(SETTINGS) + "."
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
    for setting in SETTINGS.values():
        if value := environment.get(setting.variable):
            yield Given(setting.name, value, "environment", setting.variable)


def _from_flags(flags: Mapping[str, str | None]) -> Iterator[Given]:
    for key, value in flags.items():
        if value is not None:
            option = SETTINGS[key].option or f"--{key.replace('_', '-')}"
            yield Given(key, value, "option", option)
