"""A fleet to look at, made by real agents that calibrate on this machine. Nothing is invented.

Each "machine" is a state directory with a secret of its own. Half of them are pilots: they update
from a real repository, which offers the built-in bundle under another version, so that there is
something to compare. It is the same model, so "no difference" is the right answer.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agent.bundle.bundle import MANIFEST, default_bundle
from agent.errors import AgentError, Exit, InputError
from agent.settings.config import CHANNELS
from bundles.fleet.access import credentials
from bundles.fleet.counting import rules
from bundles.fleet.counting.carried import take_file
from bundles.fleet.counting.release import release_ready
from bundles.fleet.sample import fill_with_sample
from bundles.fleet.settings import CentreSettings, utc_now
from bundles.fleet.storage.database import Database, open_database
from bundles.repository.making import make_repository
from bundles.repository.passphrases import Passphrases
from bundles.repository.publish import Audience, add_bundle
from bundles.repository.publisher import publisher_at

THRESHOLD = 2  # a demo's machines are few; a real centre keeps to ten
NAME = "demo"
LONGEST_S = 300


def settings_of(directory: Path, port: int) -> CentreSettings:
    """How the demo's centre is run."""
    url = f"http://127.0.0.1:{port}"
    return CentreSettings(f"sqlite:///{directory / 'fleet.db'}", url, threshold=THRESHOLD)


def make_sample(directory: Path, say: Callable[[str], None]) -> None:
    """A database with an invented fleet.

    Raises:
        InputError: the directory is there already.
    """
    _new(directory)
    database = open_database(settings_of(directory, 0).database)
    machines = fill_with_sample(database, directory / "reports.jsonl")
    say(f"An invented fleet of {machines} machines. {_signed_in(database)}")
    database.close()


def make_demo(
    directory: Path, machines: int, budget: str, say: Callable[[str], None]
) -> dict[str, object]:
    """Calibrate ``machines`` for either channel, and count what they report.

    Raises:
        InputError: the directory is there already.
        AgentError: an agent failed.
    """
    _new(directory)
    file, repository = directory / "reports.jsonl", _repository(directory)
    for number in range(machines):
        for channel in CHANNELS:
            say(f"[{number + 1}/{machines}] an agent of {channel} calibrates ({budget})")
            with file.open("ab") as out:
                out.write(_report(directory / f"{channel}-{number}", channel, repository, budget))
    database = open_database(settings_of(directory, 0).database)
    rules.adopt_rules(database, THRESHOLD, None)
    taken = take_file(database, file, utc_now())
    shown = release_ready(database, utc_now(), THRESHOLD)
    say(
        f"{taken['new']} reports counted, {shown} of them shown: only {THRESHOLD} that are alike "
        f"are shown together. {_signed_in(database)}"
    )
    database.close()
    return taken


def _new(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}", "Name a new directory.") from error


def _signed_in(database: Database) -> str:
    """Whom to sign in as."""
    password = secrets.token_urlsafe(12)
    credentials.set_password(database, NAME, password)
    return f"Sign in as {NAME}, password {password}"


def _repository(directory: Path) -> Path:
    """A signed repository with the built-in bundle, as the next version of itself, for pilots."""
    bundle = directory / "bundle"
    shutil.copytree(default_bundle(), bundle)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["version"] += "-again"
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    environment = {"BUNDLES_PASSPHRASE": secrets.token_urlsafe(16)}
    where = publisher_at(directory / "repository", utc_now(), Passphrases(None, environment, None))
    make_repository(where, root_keys=1, threshold=1)
    add_bundle(where, bundle, Audience("pilot"))
    return where.directory / "public"


def _report(state: Path, channel: str, repository: Path, budget: str) -> bytes:
    """What a new machine says after calibration and update: the very bytes it would send."""
    environment = os.environ | {
        "AGENT_CONFIG": "",
        "AGENT_STATE_DIR": str(state),
        "AGENT_CHANNEL": channel,
        "AGENT_REPOSITORY": str(repository),
        "AGENT_TRUSTED_ROOT": str(repository / "metadata" / "1.root.json"),
    }
    _agent(environment, "calibrate", "--budget", budget)
    if channel == "pilot":
        _agent(environment, "update")
    return _agent(environment, "report", "--show").strip() + b"\n"


def _agent(environment: dict[str, str], *arguments: str) -> bytes:
    script = str(Path(sys.executable).with_name("agent"))
    done = subprocess.run(
        [script, *arguments], env=environment, capture_output=True, timeout=LONGEST_S, check=False
    )
    if done.returncode not in (Exit.OK, Exit.NOTHING_TO_DO):  # an update that was refused is one
        said = done.stderr.decode(errors="replace").strip().splitlines()[-2:]
        raise AgentError(f"agent {arguments[0]} failed: {' '.join(said)}", "Try it by hand.")
    return done.stdout
