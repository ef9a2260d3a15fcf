"""The configuration files: which there are, and what each says, with the line it says it on."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from agent.errors import ConfigError

NAME = "calibration-agent"
SYSTEM_FOLDER = Path("/etc") / NAME
MAX_FILE_BYTES = 64 << 10
MAX_DROP_INS = 100


def xdg(environment: Mapping[str, str], name: str, below_home: str) -> Path:
    """Our directory below one of XDG's; a relative one is ignored, as the specification asks."""
    base = Path(environment.get(name) or "")
    if not base.is_absolute():
        base = _home(environment) / below_home
    return base / NAME


def _home(environment: Mapping[str, str]) -> Path:
    try:
        return Path(environment.get("HOME") or "~").expanduser()
    except RuntimeError:  # a user without an entry in the system's list, as in some containers
        return Path("/")


def config_files(environment: Mapping[str, str]) -> tuple[tuple[Path, ...], list[ConfigError]]:
    """The files to read, in order, and why others cannot even be listed."""
    if (named := environment.get("AGENT_CONFIG")) is not None:
        return ((Path(named),) if named else ()), []
    files: list[Path] = []
    problems: list[ConfigError] = []
    for folder in (SYSTEM_FOLDER, xdg(environment, "XDG_CONFIG_HOME", ".config")):
        try:
            files += _in_folder(folder)
        except OSError as error:
            problems.append(_unreadable(Path(error.filename or folder), error))
        except ConfigError as error:
            problems.append(error)
    return tuple(files), problems


def _in_folder(folder: Path) -> list[Path]:
    main, drop_ins = folder / "config.toml", folder / "conf.d"
    names = sorted(_list(drop_ins))
    if len(names) > MAX_DROP_INS:
        raise ConfigError(f"{drop_ins} holds more than {MAX_DROP_INS} files", "Join some of them.")
    return [*([main] if _is_there(main) else []), *(drop_ins / name for name in names)]


def _is_there(path: Path) -> bool:
    """False only where it is certainly not there: what may not be looked at is an OSError."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _list(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  names only
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        if not _is_there(folder):
            return []
        raise
    return [name for name in names if name.endswith(".toml") and not name.startswith(".")]


def read_settings(path: Path) -> dict[str, tuple[object, int | None]]:
    """What a file sets: by key, the value and its line.

    Raises:
        ConfigError: it cannot be read, is no plain file, too large, or not TOML.
    """
    import tomllib

    try:
        text = _content(path)
        data = tomllib.loads(text)
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", "Save it as UTF-8.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        hint = 'Correct that line. Text stands in quotes: budget = "45s".'
        raise ConfigError(f"{path} is not valid TOML: {error}", hint) from error
    lines = text.splitlines()
    return {key: (value, _line_of(key, lines)) for key, value in data.items()}


def _content(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"{path} is not a plain file", "Put a file there, or remove it.")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        hint = "A configuration is a few lines: is it the right file?"
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes", hint)
    return content.decode("utf-8-sig")  # some editors begin a file with a mark of UTF-8


def _unreadable(path: Path, error: OSError) -> ConfigError:
    hint = "Correct or remove the file."
    if isinstance(error, PermissionError):
        hint = (
            f"Let this user read it (`sudo chmod a+rX {path}`; secrets have files of their own), "
            "or set AGENT_CONFIG to another file (empty: none)."
        )
    return ConfigError(f"{path} cannot be read: {error.strerror}", hint)


def _line_of(key: str, lines: list[str]) -> int | None:
    """The line that sets a key (or opens its table), found without a parser that tells lines."""
    begin = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(lines, 1) if begin.match(line)), None)
