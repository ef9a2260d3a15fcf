"""What the agent may import is there: ``VENV/bin/python3 -I debian/check_venv.py``.

Run by make-venv in what it has pruned. Every import in the agent's source is made, also those
inside functions, which a start does not reach; then every part is tried once (`agent self-test`).
"""

import ast
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# If the search below misses one of these, it is the search that is wrong.
KNOWN = {
    *("islpy", "numpy", "onnxruntime", "psutil", "requests", "rich", "typer"),
    *("sklearn.ensemble", "tuf.ngclient"),
}
# What the agent does not name, but what it names imports when it is used.
BESIDE = (
    *("scipy.linalg", "scipy.sparse.linalg", "scipy.special", "scipy.stats"),
    *("securesystemslib.signer", "cryptography.hazmat.primitives.asymmetric.ed25519"),
)
LATE = "from numpy import *; from scipy import *"  # the first is what scikit-learn comes to


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The module and the name (or nothing) of every import in a file, which are all absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def fetch(module: str, name: str = "") -> None:
    """Do as the statement does."""
    found = importlib.import_module(module)
    if name and not hasattr(found, name):
        importlib.import_module(f"{module}.{name}")


def main() -> int:
    """Import, then try."""
    place = importlib.util.find_spec("agent")
    if place is None or place.origin is None or not place.origin.startswith(sys.prefix):
        sys.exit(f"check_venv: the agent is not in {sys.prefix}")
    wanted = {w for path in Path(place.origin).parent.rglob("*.py") for w in imports(path)}
    if missed := KNOWN - {module for module, _ in wanted}:
        sys.exit(f"check_venv: nothing of the agent imports {', '.join(sorted(missed))}")
    for module, name in (*sorted(wanted), *((module, "") for module in BESIDE)):
        fetch(module, name)
    exec(LATE, {})  # noqa: S102

    from agent.cli import main as agent

    with tempfile.TemporaryDirectory() as state:
        sys.argv = ["agent", "self-test", "--state-dir", state, "--compiler", "prebuilt"]
        return agent()


if __name__ == "__main__":
    sys.exit(main())
