import contextlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agent
from agent.bundle.bundle import MAX_BYTES, default_bundle, load_bundle
from agent.errors import BundleError
from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION
from tests.agent.bundle.bundles_made import EMBEDDING, encoder_bytes, golden, write_bundle


@pytest.fixture
def good(tmp_path):
    return write_bundle(tmp_path / "bundle")


def test_a_good_bundle_loads(good):
    bundle = load_bundle(good)
    assert (bundle.name, bundle.version, bundle.embedding) == ("test", "1", EMBEDDING)
    assert bundle.encoder == encoder_bytes()
    assert len(bundle.golden[0]) == 2
    assert len(bundle.digest) == 64


def test_a_bundle_says_which_marks_it_was_taught_and_older_ones_none(tmp_path):
    told = load_bundle(write_bundle(tmp_path / "new", taught=["lanes", "of a later agent"]))
    assert told.taught == {"lanes", "of a later agent"}
    assert load_bundle(write_bundle(tmp_path / "old")).taught == frozenset()


def test_golden_rows_are_optional(tmp_path):
    path = write_bundle(tmp_path / "b")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["golden"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert load_bundle(path).golden == ([], [])


def test_the_default_bundle_lies_beside_the_agent_package():
    assert default_bundle().parent.parent.joinpath("agent", "__init__.py").samefile(agent.__file__)


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "prior.json"])
def test_a_missing_file_is_named(good, name):
    (good / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        load_bundle(good)


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read") as caught:
        load_bundle(tmp_path / "none")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["encoder.onnx", "prior.json"])
def test_a_flipped_byte_is_noticed(good, name):
    content = bytearray((good / name).read_bytes())
    content[len(content) // 2] ^= 1
    (good / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file"):
        load_bundle(good)


def test_a_file_cut_short_is_noticed(good):
    content = (good / "encoder.onnx").read_bytes()
    (good / "encoder.onnx").write_bytes(content[:-1])
    with pytest.raises(BundleError, match="bytes, not what its manifest says"):
        load_bundle(good)


@pytest.mark.parametrize("name", sorted(MAX_BYTES))
def test_a_file_that_is_too_large_is_not_read_whole(good, name):
    with (good / name).open("wb") as file:
        file.truncate(10 * 2**30)  # sparse: takes no disk
    with pytest.raises(BundleError, match=f"{name} is larger than"):
        load_bundle(good)


@pytest.mark.parametrize("name", sorted(MAX_BYTES))
def test_a_link_is_not_followed(good, tmp_path, name):
    (good / name).rename(tmp_path / "elsewhere")
    (good / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        load_bundle(good)


def test_a_link_to_the_whole_bundle_is_followed(good, tmp_path):
    (tmp_path / "current").symlink_to(good)
    assert load_bundle(tmp_path / "current").name == "test"


def test_a_pipe_or_a_directory_in_place_of_a_file_is_refused(good):
    (good / "prior.json").unlink()
    os.mkfifo(good / "prior.json")
    with pytest.raises(BundleError, match="not a regular file"):
        load_bundle(good)
    (good / "prior.json").unlink()
    (good / "prior.json").mkdir()
    with pytest.raises(BundleError, match=r"prior\.json"):
        load_bundle(good)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", '{"schema": 1', "[]", "null", "[" * 100_000, '{"a":' * 50_000, "\xff\xfe",
        '{"schema": NaN}', '{"schema": 1e999}', '{"schema": ' + "9" * 9_000 + "}",
        '{"name": "somebody else\'s manifest", "files": []}',
    ],
)  # fmt: skip
def test_a_broken_or_foreign_manifest_is_refused(good, text):
    (good / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match="cannot be used"):
        load_bundle(good)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"schema": True}, "schema"),
        ({"features_version": FEATURES_VERSION + 1}, "features version"),
        ({"features": list(FEATURES)[:-1]}, "list of features"),
        ({"features": list(FEATURES)[::-1]}, "list of features"),
        ({"embedding": 0}, "embedding"),
        ({"embedding": 10**9}, "embedding"),
        ({"embedding": 4.0}, "embedding"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"version": "1\x1b[31m"}, "control characters"),
        ({"licence": None}, "licence"),
        ({"created": "x" * 1000}, "created"),
        ({"provenance": []}, "provenance"),
        ({"files": {}}, "manifest lists"),
        ({"files": []}, "files"),
        ({"files": {"encoder.onnx": 1, "prior.json": 2}}, "says nothing"),
        ({"files": {"../../etc/passwd": {}, "prior.json": {}}}, "manifest lists"),
        ({"golden": []}, "golden"),
        ({"golden": {}}, "golden"),
        ({"golden": golden() | {"embedding": [[1.0] * EMBEDDING]}}, "golden"),
        ({"golden": golden() | {"embedding": [[True] * EMBEDDING] * 2}}, "golden"),
        ({"golden": golden() | {"embedding": [[10**400] * EMBEDDING] * 2}}, "absurdly large"),
        ({"golden": golden() | {"features": [[0.0]] * 2}}, "golden"),
        ({"taught": "lanes"}, "taught"),
        ({"taught": [1]}, "taught"),
        ({"taught": ["x" * 41]}, "taught"),
        ({"taught": ["x"] * 33}, "taught"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path, changes, words):
    with pytest.raises(BundleError, match=words):
        load_bundle(write_bundle(tmp_path / "b", **changes))


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({"log": nested(200)}, "nested too deeply"),  # that json would read, and others not write
        ({"log": {"a": nested(20)}}, "nested too deeply"),
        ({"by": "\x1b[2J"}, "control characters"),
        ({"\x9b31m": 1}, "control characters"),
        ({"by": ["a", {"b": "\u202etxt.exe"}]}, "control characters"),
        ({"by": "\ud800"}, "control characters"),
        ({"loss": 10**400}, "absurdly large"),
        ({"loss": -1e31}, "absurdly large"),
    ],
)
def test_provenance_that_would_hurt_whoever_shows_it_is_refused(tmp_path, provenance, words):
    with pytest.raises(BundleError, match=words):
        load_bundle(write_bundle(tmp_path / "b", provenance=provenance))


def test_provenance_may_have_several_lines_and_any_language(tmp_path):
    provenance = {"notes": "Zürich, 東京\n\tand a second line \U0001f600", "deep": nested(10)}
    bundle = load_bundle(write_bundle(tmp_path / "b", provenance=provenance))
    assert bundle.provenance == provenance


@pytest.mark.parametrize("name", ["manifest.json", "prior.json"])
def test_a_key_that_comes_twice_is_refused(tmp_path, name):
    path = write_bundle(tmp_path / "b", prior=b'{"a": {"b": 1, "b": 2}}')
    if name == "manifest.json":
        path = write_bundle(tmp_path / "b")
        text = (path / name).read_text()
        (path / name).write_text('{"name": "another", ' + text[1:])
    with pytest.raises(BundleError, match=f"{name} is not JSON .a key comes twice"):
        load_bundle(path)


def test_a_number_too_large_for_a_float_is_refused(tmp_path):
    path = write_bundle(tmp_path / "b", provenance={"loss": 12345.5})
    text = (path / "manifest.json").read_text().replace("12345.5", "1e999")
    (path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="not finite"):
        load_bundle(path)


@pytest.mark.parametrize(
    "prior", [b"[]", b"", b'{"mean": NaN}', b'{"mean": Infinity}', b"[" * 9000]
)
def test_a_prior_that_is_no_json_object_is_refused(tmp_path, prior):
    with pytest.raises(BundleError, match=r"prior\.json"):
        load_bundle(write_bundle(tmp_path / "b", prior=prior))


def test_a_file_that_is_no_onnx_is_refused_before_any_runtime_sees_it(tmp_path):
    with pytest.raises(BundleError, match="not an ONNX model"):
        load_bundle(write_bundle(tmp_path / "b", encoder=b"\x7fELF not a model"))


def test_large_files_are_refused_together(tmp_path):
    prior = b'{"x": "' + b"y" * (2**20 - 100) + b'"}'
    with pytest.raises(BundleError, match="files hold"):
        load_bundle(write_bundle(tmp_path / "b", encoder=b"x" * (3 * 2**20), prior=prior))


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_manifest_is_survived(tmp_path_factory, at, bit):
    path = write_bundle(tmp_path_factory.mktemp("b"))
    content = bytearray((path / "manifest.json").read_bytes())
    content[at % len(content)] ^= 1 << bit
    (path / "manifest.json").write_bytes(content)
    with contextlib.suppress(BundleError):
        load_bundle(path)
