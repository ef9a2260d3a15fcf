"""Our client behind the command line that theupdateframework/tuf-conformance asks for.

    python tests/agent/update/tuf_client.py --metadata-dir DIR init ROOT
    python tests/agent/update/tuf_client.py --metadata-dir DIR --metadata-url URL refresh
    python tests/agent/update/tuf_client.py --metadata-dir DIR --metadata-url URL --target-name NAME
        --target-base-url URL --target-dir DIR download

Exit 0 if all went well, else 1. It fetches, verifies and caches by the very functions that
``agent update`` uses; floors and the fields of our own are not part of what the suite knows.
docs/explanation/update-security.md says how the suite is run, and what it gave.
"""

import argparse
import sys
import time
from pathlib import Path
from urllib.parse import quote

from agent.errors import AgentError
from agent.update.refusals import told_in_words
from agent.update.source import open_source
from agent.update.tuf_updater import fetch_target, open_updater

TRUSTED_ROOT = "trusted-root"  # not *.json: the suite takes those for what the client trusts now


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    for option in ("--metadata-url", "--target-name", "--target-base-url"):
        parser.add_argument(option)
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except AgentError as error:
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    kept = arguments.metadata_dir / TRUSTED_ROOT
    if arguments.command == "init":
        kept.write_bytes(arguments.trusted_root.read_bytes())
        return
    source = open_source(arguments.metadata_url)
    source.metadata_url = arguments.metadata_url.rstrip("/")
    with told_in_words(source):
        updater = open_updater(source, kept.read_bytes(), arguments.metadata_dir, time.time())
        updater.refresh()
        if arguments.command == "download":
            source.targets_url = arguments.target_base_url.rstrip("/")
            target = updater.get_targetinfo(arguments.target_name)
            if target is None:
                raise AgentError(f"there is no target {arguments.target_name}")
            path = arguments.target_dir / quote(arguments.target_name, safe="")
            if updater.find_cached_target(target, str(path)) is None:
                path.write_bytes(fetch_target(updater, source, target))


if __name__ == "__main__":
    sys.exit(main())
