"""What the tests of the commands share: a real bundle, a real calibrated state, the real script."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# jsonschema's check of IRIs, which no schema here asks for, takes 1.6 s of CPU in every process.
sys.modules.setdefault("rfc3987_syntax", None)
# The workers of a run share the CPUs: one that waits for more threads of its own only spins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before anything imports numpy

# Started with `&` or by nohup, a shell's children ignore these, and theirs would as well.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

# CI judges a change by the same examples each time, and does not spend its time on shrinking them;
# at a desk every run looks at new ones.
QUICK = (Phase.explicit, Phase.generate)
settings.register_profile("ci", derandomize=True, database=None, phases=QUICK)
if os.environ.get("CI"):
    settings.load_profile("ci")

SLOW = (Path(__file__).with_name("slow.txt")).read_text().split("\n")
ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "docs" / "reference" / "schemas"
SCRIPT = Path(sys.executable).with_name("agent")
GEMM = """
void gemm(int ni, int nj, int nk, float C[ni][nj], const float A[ni][nk], const float B[nk][nj])
{
#pragma scop
  for (int i = 0; i < ni; i++)
    for (int j = 0; j < nj; j++)
      for (int k = 0; k < nk; k++)
        C[i][j] += A[i][k] * B[k][j];
#pragma endscop
}
"""


def pytest_ignore_collect(collection_path, config):
    """What `./check quick` leaves out it does not read either: some import PyTorch, some Ray."""
    if config.option.markexpr == "not slow":
        return collection_path.relative_to(config.rootpath).as_posix() in SLOW or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """The files of slow.txt are marked, and come first: no worker is left with one at the end."""
    order = {config.rootpath / name: place for place, name in enumerate(SLOW)}
    for item in items:
        if item.path in order:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: order.get(item.path, len(order)))


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def environment(**more):
    """A clean environment: nothing of the developer's own configuration."""
    names = ("PATH", "HOME", "TMPDIR", "LANG", "OPENBLAS_NUM_THREADS")
    kept = {k: os.environ[k] for k in names if k in os.environ}
    return {**kept, "AGENT_CONFIG": "", **more}


NO_TIMING = "from tests.fake_runner import take_the_place; take_the_place()"  # for ``first``
_UNTIMED = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {NO_TIMING}; from agent.cli import main"
UNTIMED = (sys.executable, "-c", f"{_UNTIMED}; sys.exit(main())")  # in place of the script
AT_THE_START = ("PYTHON", "LANG", "LC_", "LD_", "OMP_", "OPENBLAS_")  # read then, and never again


def agent(*arguments, timeout=600, first="", **env) -> Ran:
    """Run the command in a process of its own (tests/forked.py), as a person does.

    ``first``: Python that is run before it begins, to change what tests may not leave to chance.
    """
    if any(name.startswith(AT_THE_START) for name in env):
        return agent_script(*arguments, timeout=timeout, **env)
    from tests import forked

    done = forked.run("agent", *arguments, env=environment(**env), timeout=timeout, first=first)
    return Ran(done.returncode, done.stdout, done.stderr)


def agent_script(*arguments, timeout=600, **env) -> Ran:
    """Run the console script itself: for what belongs to a start."""
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(**env),
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that has a directory filled once, whichever worker of this run is the first."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own
    return lambda name, fill: filled_once(shared, f"once-{name}", fill)


def filled_once(folder: Path, name: str, fill) -> Path:
    """A directory in a folder, filled by whoever is the first to ask; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    place, whole = folder / name, folder / f"{name}.whole"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            fill(place)
            whole.touch()
    return place


def kept_between_runs(name: str, inputs: list[Path], fill) -> Path:
    """As `filled_once`, for later runs of the tests too, until one of the input files changes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made_of = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in inputs)
    digest = hashlib.sha256(made_of).hexdigest()[:16]
    return filled_once(cache / "calibration-agent-tests", f"{name}-{digest}", fill)


@pytest.fixture(scope="session")
def tiny_bundle(made_once) -> Path:
    """A bundle of four random projections: real files, no knowledge."""
    import numpy as np
    from onnx import helper, numpy_helper

    from tests.agent.bundle.bundles_made import FEATURE_COUNT, encoder_bytes, golden, write_bundle

    width = 4
    weights = np.random.default_rng(0).normal(size=(FEATURE_COUNT, width)) / FEATURE_COUNT**0.5
    weights = weights.astype(np.float32)
    encoder = encoder_bytes(
        nodes=[helper.make_node("MatMul", ["features", "w"], ["embedding"])],
        tensors=[numpy_helper.from_array(weights, "w")],
        embedding=width,
    )
    prior = {
        "schema": 1,
        "mean": [0.1] * width + [-21.0],
        "directions": np.eye(width + 1)[:, :3].tolist(),
        "noise_speedup": 0.5,
        "noise_seconds": 0.7,
    }
    rows = np.asarray(golden()["features"], np.float32)
    known = {"features": rows.tolist(), "embedding": (rows @ weights).tolist()}

    def fill(place):
        priors = json.dumps(prior).encode()
        write_bundle(place / "tiny", encoder, priors, golden=known, name="tiny")

    return made_once("bundles", fill) / "tiny"


@pytest.fixture(scope="session")
def calibrated(made_once, tiny_bundle) -> Path:
    """A state directory with one calibration, its times simulated. Only to be read."""
    from tests.fake_runner import calibrate_simulated

    def fill(place):
        calibrate_simulated(place / "state", tiny_bundle)

    return made_once("simulated", fill) / "state"


@pytest.fixture(scope="session")
def really_calibrated(made_once, tiny_bundle) -> tuple[Path, Ran]:
    """A state directory with a short real calibration, compiled code included, and what was said.

    Only to be read.
    """

    def fill(place):
        at = ("--bundle", tiny_bundle, "--state-dir", place / "state")
        ran = agent("calibrate", "--budget", "3s", "--json", *at)
        certainly_in_force(place / "state")
        (place / "ran.json").write_text(json.dumps(asdict(ran)))

    place = made_once("calibrated", fill)
    return place / "state", Ran(**json.loads((place / "ran.json").read_text()))


def certainly_in_force(state, number=1):
    """A calibration as a person may put it in force, however busy this machine was meanwhile."""
    ran = agent("calibration", "use", number, "--state-dir", state)
    assert ran.code in (0, 7), ran.err  # 7: it is already


@pytest.fixture
def gemm(tmp_path) -> Path:
    """A person's own C file."""
    path = tmp_path / "gemm.c"
    path.write_text(GEMM)
    return path


def valid(body, name):
    """The answer follows its documented schema and holds no NaN or infinity."""
    import jsonschema

    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.validate(body, schema)
    json.dumps(body, allow_nan=False)
    return body


SIZES = ("--size", "ni=64", "--size", "nj=64", "--size", "nk=64")


@pytest.fixture
def open_place():
    """A folder that other users can go to: pytest closes its own to everybody but its user."""
    with tempfile.TemporaryDirectory(prefix="agent-test-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@pytest.fixture
def nobody(open_place):
    """The console script run by another user; for tests as root."""
    from tests import other_user

    prefix = [*other_user.readable(open_place), *other_user.become()]
    return lambda *arguments, **env: other_user.run(
        prefix, *arguments, **{"HOME": str(open_place / "nobodys"), **env}
    )


@pytest.fixture
def as_root(open_place):
    """The console script run by root on an interpreter that everybody can read."""
    from tests import other_user

    prefix = other_user.readable(open_place)
    return lambda *arguments, **env: other_user.run(prefix, *arguments, **env)
