import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.bundle import encoder, probe_child
from agent.bundle import probe as probing
from agent.bundle.bundle import default_bundle, load_bundle
from agent.bundle.probe import ProbeLimits, probe
from agent.errors import BundleError
from tests.agent.bundle.bundles_made import EMBEDDING, WEIGHTS, encoder_bytes, golden, write_bundle

SHORT = ProbeLimits(seconds=1, loading=10)
ROWS = np.array(golden()["features"], np.float32)


@pytest.fixture
def good(tmp_path):
    return load_bundle(write_bundle(tmp_path / "good"))


@pytest.fixture(autouse=True)
def nothing_left_behind():
    def state():
        children = {child.pid for child in psutil.Process().children(recursive=True)}
        return children, len(list(Path("/proc/self/fd").iterdir()))

    before = state()
    yield
    assert state() == before


def with_graph(bundle, *nodes, expected=None, **weights):
    """The bundle with another graph in it, unchecked: what the rules for graphs would miss."""
    tensors = [
        numpy_helper.from_array(np.asarray(v), k) for k, v in {"w": WEIGHTS, **weights}.items()
    ]
    golden = (ROWS.tolist(), (np.tanh(ROWS @ WEIGHTS) if expected is None else expected).tolist())
    return replace(bundle, encoder=encoder_bytes(nodes=list(nodes), tensors=tensors), golden=golden)


def node(operator, *names, **attributes):
    """A node that reads all names but the last, which it makes."""
    return helper.make_node(operator, list(names[:-1]), [names[-1]], **attributes)


LAST = node("Tanh", "h", "embedding")
FIRST = node("MatMul", "features", "w", "h")
NO_NUMBERS = [FIRST, node("Sub", "h", "h", "nothing"), node("Log", "nothing", "embedding")]


def refused(bundle, words, limits=None):
    with pytest.raises(BundleError, match=words) as caught:
        probe(bundle, limits)
    assert caught.value.hint
    return caught.value.message


def test_a_sound_encoder_is_as_far_off_as_floats_are(good):
    assert 0 <= probe(good) < 1e-5
    assert probe(good, SHORT) == probe(good)


def test_the_default_bundle_passes():
    assert 0 < probe(load_bundle(default_bundle())) < 1e-4


def test_as_many_rows_are_tried_at_once_as_will_ever_be_embedded():
    assert encoder._CHUNK == probe_child.BATCH


def test_a_bundle_without_golden_rows_is_refused(good):
    refused(replace(good, golden=([], [])), "no golden rows")


def test_an_encoder_that_is_off_is_refused(good):
    refused(with_graph(good, FIRST, LAST, w=WEIGHTS + np.float32(0.01)), "off by .* golden rows")


def test_an_encoder_that_gives_no_numbers_is_refused(good):
    refused(with_graph(good, *NO_NUMBERS), "no finite numbers")


def test_an_encoder_of_another_shape_is_refused(good):
    refused(replace(good, embedding=EMBEDDING + 1), "onnxruntime does not take")
    refused(with_graph(good, FIRST, node("Shape", "h", "embedding")), "onnxruntime does not take")


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"\x08\x08:\x02"])
def test_what_is_no_model_is_refused(good, content):
    refused(replace(good, encoder=content), "onnxruntime does not take")


COMPANY = {
    "the mean over rows": [
        FIRST, node("ReduceMean", "h", "m", axes=[0]), node("Sub", "h", "m", "embedding")],
    "the number of rows": [
        FIRST, node("ReduceSum", "h", "m", keepdims=0), node("Add", "h", "m", "embedding")],
    "the row before": [FIRST, node("CumSum", "h", "zero", "embedding")],
    "chance": [FIRST, node("RandomNormalLike", "h", "r"), node("Add", "h", "r", "embedding")],
}  # fmt: skip


@pytest.mark.parametrize("nodes", COMPANY.values(), ids=COMPANY.keys())
def test_an_encoder_that_looks_at_other_rows_is_refused(good, nodes):
    refused(with_graph(good, *nodes, zero=np.array(0)), "beside other rows")


def test_an_encoder_trained_while_it_is_used_is_refused(good):
    training = helper.make_node(
        "BatchNormalization", ["h", "one", "zero", "zero", "one"], ["embedding", "a", "b"],
        training_mode=1,
    )  # fmt: skip
    one = np.ones(EMBEDDING, np.float32)
    refused(with_graph(good, FIRST, training, one=one, zero=0 * one), "beside other rows")


def test_64_gib_are_not_given(good):
    shape = np.array([131_072, 131_072])
    nodes = [node("ConstantOfShape", "s", "b"), node("ReduceMax", "b", "m", keepdims=0),
             FIRST, node("Add", "h", "m", "embedding")]  # fmt: skip
    refused(with_graph(good, *nodes, s=shape), "needs more than 192 MiB|does not take")


def test_memory_that_only_a_full_batch_needs_is_not_given(good):
    wide = np.ones((1, 4096), np.float32)
    nodes = [FIRST, node("ReduceMax", "h", "one", axes=[1])]
    nodes += [node("Add", "one", f"v{k}", f"wide{k}") for k in range(8)]
    nodes += [
        node("Max", *(f"wide{k}" for k in range(8)), "all"),
        node("ReduceMax", "all", "most", axes=[1]),
        node("Add", "h", "most", "embedding"),
    ]
    several = {f"v{k}": wide * k for k in range(8)}
    refused(with_graph(good, *nodes, **several), "needs more than 192 MiB for 8192 rows")


def endless(good):
    """Loops 2**62 times."""
    body = helper.make_graph(
        [node("Identity", "on", "still"), node("Tanh", "x", "y")],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    loop = node("Loop", "many", "yes", "h", "embedding", body=body)
    return with_graph(good, FIRST, loop, many=np.array(2**62), yes=np.array(True))


def test_an_endless_encoder_is_stopped(good):
    started = time.monotonic()
    refused(endless(good), "takes longer than 1 s", SHORT)
    assert time.monotonic() - started < 100


def test_external_data_is_not_reached_even_if_the_rules_missed_it(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(WEIGHTS.tobytes())
    os.link(tmp_path / "weights", tmp_path / "linked")
    for place in ("weights", "linked", str(tmp_path / "weights"), "/etc/passwd"):
        outside = TensorProto(name="w", data_type=1, dims=WEIGHTS.shape, data_location=1)
        for key, value in (("location", place), ("length", str(WEIGHTS.nbytes))):
            outside.external_data.add(key=key, value=value)
        encoder = encoder_bytes(nodes=[FIRST, LAST], tensors=[outside])
        refused(replace(good, encoder=encoder), "onnxruntime does not take")


@pytest.mark.parametrize(
    ("ended_by", "words"), [(signal.SIGSEGV, "Segmentation"), (signal.SIGKILL, "Killed")]
)
def test_a_crash_is_the_encoders_fault_and_ours_goes_on(good, ended_by, words):
    def crash():
        while not (mine := [c for c in psutil.Process().children() if is_probe(c)]):
            time.sleep(0.01)
        mine[0].send_signal(ended_by)

    thread = threading.Thread(target=crash)
    thread.start()
    refused(endless(good), f"crashes .*{words}")
    thread.join()


def is_probe(child: psutil.Process) -> bool:
    """Other tests may have left helpers of their own."""
    try:
        return "agent.bundle.probe_child" in child.cmdline()
    except psutil.Error:
        return False


def test_several_threads_may_probe_at_once(good):
    bundles = [good, with_graph(good, *NO_NUMBERS)] * 3
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(probe, bundle) for bundle in bundles]
        errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [type(None), BundleError] * 3


def test_neither_the_environment_nor_the_directory_changes_what_is_run(good, tmp_path, monkeypatch):
    for name in ("json.py", "numpy.py", "resource.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit(99)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [x for x in sys.path if x])
    variables = {"PYTHONPATH": str(tmp_path), "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error"}
    for name, value in (variables | {"ORT_LOG": "x", "LD_PRELOAD": "/nonexistent.so"}).items():
        monkeypatch.setenv(name, value)
    assert probe(good) < 1e-5


LIARS = {
    "silence": "",
    "words": "print('fine')",
    "not a number": "print('nan')",
    "infinity": "print('inf')",
    "below zero": "print('-1.000000e-09')",
    "two numbers": "print('0.000000e+00\\n0.000000e+00')",
    "a number in another form": "print('0')",
    "escape sequences": "print('\\x1b[31m0.000000e+00')",
    "no line end": "print('0.000000e+00', end='')",
}


def pretend(monkeypatch, tmp_path, code):
    (tmp_path / "liar.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(probing, "CHILD", "liar")


@pytest.mark.parametrize("code", LIARS.values(), ids=LIARS.keys())
def test_of_what_a_child_says_only_a_number_is_believed(good, tmp_path, monkeypatch, code):
    pretend(monkeypatch, tmp_path, code)
    message = refused(good, "did not answer")
    assert message.isprintable()


def test_a_number_that_is_too_large_is_a_refusal_whoever_says_it(good, tmp_path, monkeypatch):
    pretend(monkeypatch, tmp_path, "print('1.100000e-04')")
    refused(good, "off by")


def test_an_exit_code_nobody_agreed_on_is_a_refusal(good, tmp_path, monkeypatch):
    pretend(monkeypatch, tmp_path, "print('0.000000e+00'); raise SystemExit(7)")
    refused(good, "exit code 7")


def test_a_child_that_never_stops_talking_costs_time_not_memory(good, tmp_path, monkeypatch):
    pretend(monkeypatch, tmp_path, "while True: print('0.000000e+00')")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(good, "longer than", ProbeLimits(seconds=1, loading=1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_children_of_the_child_end_with_it(good, tmp_path, monkeypatch):
    code = "import os, time\nif os.fork() == 0: time.sleep(1000)\n"
    pretend(monkeypatch, tmp_path, code)
    refused(good, "did not answer")  # that none is left, the fixture sees


def test_a_child_that_cannot_start_is_a_refusal(good, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    refused(good, "could be started")


CONFINED = """
import errno, os, resource, socket, sys
from agent.bundle.probe_child import confine
left_open = os.open("/etc/passwd", os.O_RDONLY)
confine(5, 64 * 2**20)
def fails(action, number=None):
    try:
        action()
    except MemoryError:
        return number is None
    except OSError as error:
        return error.errno == number
    return False
assert fails(lambda: os.read(left_open, 1), errno.EBADF)
assert fails(lambda: open("/etc/passwd"), errno.EMFILE)
assert fails(lambda: os.open("/dev/null", os.O_WRONLY), errno.EMFILE)
assert fails(socket.socket, errno.EMFILE)
assert fails(os.pipe, errno.EMFILE)
assert fails(lambda: bytearray(100 * 2**20))
bytearray(32 * 2**20)
assert fails(lambda: os.write(0, b"x"), errno.EFBIG)
assert os.getuid() == 0 or fails(os.fork, errno.EAGAIN)
for limit in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
    assert resource.getrlimit(limit) == (0, 0)
print("as it should be")
"""


def test_a_confined_process_opens_nothing_writes_nothing_and_gets_little_memory(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        done = subprocess.run(
            [sys.executable, "-c", CONFINED], stdin=file, capture_output=True, text=True
        )
    assert (done.stdout, done.stderr) == ("as it should be\n", "")


def test_a_confined_process_ends_by_itself_when_nobody_waits_for_it():
    loop = "from agent.bundle.probe_child import confine; confine(1, 2**26)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", loop], timeout=600)
    assert done.returncode in (-signal.SIGALRM, -signal.SIGXCPU)
