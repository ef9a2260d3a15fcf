"""What is fetched is pinned, what is built is the same each time, and a bill says what is in it."""

import base64
import csv
import gzip
import hashlib
import json
import os
import platform
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from itertools import chain

import pytest
from packaging.requirements import Requirement

from tests.system.conftest import REPOSITORY, build_wheel, isolated_environment, run_build
from tests.test_docs import DOCUMENTS, LINK

LOCKS = (
    "containers/centre.lock",
    "debian/requirements.lock",
    "tools/build.lock",
    "tools/prebuild.lock",
)
ABOUT = "calibration_agent-0.1.0.dist-info/"
BILL = "calibration-agent.cdx.json"
BUNDLE = {f"bundles/default/{name}" for name in ("encoder.onnx", "manifest.json", "prior.json")}
BESIDE = "calibration_agent-0.1.0.data/data/share/doc/calibration-agent/"
PREBUILT = "agent/kernels/prebuilt/"
LIBRARIES = "usr/lib/calibration-agent/lib"
SITE = f"{LIBRARIES}/python3.11/site-packages"
PAGES = "usr/share/doc/calibration-agent"
READ_FIRST = {"README.md", "CONTRIBUTING.md"}


def pins(lock):
    return dict(re.findall(r"(?m)^([\w-]+)==(\S+) \\$", (REPOSITORY / lock).read_text()))


def project():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def source_files():
    """What git would commit."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (REPOSITORY / name).exists()]


@pytest.fixture
def checkout(tmp_path):
    """The source at another place."""
    place = tmp_path / "checkout"
    for name in source_files():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, place / name)
    return place


@pytest.fixture(scope="module")
def without_network(made_once):
    """The environment of a build that can fetch what the lock names, and nothing else."""

    def fill(place):
        what = ("-r", REPOSITORY / "tools/build.lock", "--dest", place)
        run_build(sys.executable, "-m", "pip", "download", "--require-hashes", *what)

    folder = made_once("build-tools", fill)
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}


@pytest.fixture(scope="module")
def pure(made_once, without_network):
    """The folder of the pure wheel."""
    return made_once(
        "pure-wheel", lambda place: build_wheel(REPOSITORY, "pure", place, **without_network)
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_has_hashes(lock):
    text = (REPOSITORY / lock).read_text()
    hashed = re.findall(r"(?m)^[\w-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text)
    assert len(hashed) == len(pins(lock)) > 0


def test_the_locks_hold_what_pyproject_pins_and_agree_with_each_other():
    known = project()
    groups = known["dependency-groups"]
    for lock, lines in (
        ("tools/build.lock", [*known["build-system"]["requires"], *groups["build"]]),
        ("tools/prebuild.lock", groups["prebuild"]),
    ):
        for wanted in map(Requirement, lines):
            assert str(wanted.specifier) == f"=={pins(lock)[wanted.name]}"
    every = set(chain.from_iterable(pins(lock).items() for lock in LOCKS))
    assert len(every) == len({name for name, _ in every})


def test_a_wheel_is_built_of_what_the_lock_names_and_nothing_else(pure):
    assert [path.suffix for path in pure.iterdir()] == [".whl"]


def test_a_build_refuses_other_bytes_than_the_locks_name(checkout, without_network, tmp_path):
    lock = checkout / "tools/build.lock"
    lock.write_text(re.sub(r"sha256:\w{4}", "sha256:0000", lock.read_text()))
    done = subprocess.run(
        [checkout / "tools/build-wheel", "pure", tmp_path / "made"],
        env=isolated_environment(**without_network),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "made").exists()


def test_the_same_source_gives_the_same_wheel_wherever_and_by_whomever(
    pure, checkout, without_network, tmp_path
):
    before = os.umask(0o077)
    try:
        otherwise = {"TZ": "Asia/Tokyo", "LANG": "C", **without_network}
        again = build_wheel(checkout, "pure", tmp_path / "made", **otherwise)
    finally:
        os.umask(before)
    assert again.read_bytes() == (pure / again.name).read_bytes()


def unpacked(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def held(wheel):
    """What is in this platform's wheel."""
    return unpacked(wheel(platform.machine()))


def test_a_wheel_holds_the_source_the_prebuilt_set_and_what_describes_them(held):
    source = {n for n in source_files() if n.startswith(("agent/", "bundles/"))}
    source -= {n for n in source if n.startswith("bundles/measured/")}
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", f"sboms/{BILL}"}
    documents = {n for n in source_files() if n.startswith("docs/")} | READ_FIRST
    beside = {BESIDE + name for name in documents}
    prebuilt = {name for name in held if name.startswith(PREBUILT)}
    assert set(held) == source | prebuilt | beside | {ABOUT + name for name in about}


def broken_links(files):
    """Links of documents to what is not among the files."""
    for name, content in files.items():
        if name.endswith(".md"):
            text = re.sub(r"(?s)```.*?```", "", content.decode())
            for to in {to for to, _ in LINK.findall(text) if to}:
                if posixpath.normpath(f"{posixpath.dirname(name)}/{to}".lstrip("/")) not in files:
                    yield name, to


def test_every_link_of_a_document_leads_somewhere_in_the_wheel(held):
    beside = {n.removeprefix(BESIDE): c for n, c in held.items() if n.startswith(BESIDE)}
    assert {path.relative_to(REPOSITORY).as_posix() for path in DOCUMENTS} <= set(beside)
    assert list(broken_links(beside)) == []


def test_what_an_index_shows_of_a_wheel_names_files_that_it_brings(held):
    shown = held[f"{ABOUT}METADATA"].decode()
    assert LINK.findall(shown) == []
    named = set(re.findall(r"\(`([\w/-]+\.md)`\)", shown))
    assert "docs/how-to/install.md" in named
    assert {name for name in named if BESIDE + name not in held} == set()


def test_nothing_in_a_wheel_tells_where_it_was_built(held):
    places = (str(REPOSITORY), *(f"{tempfile.gettempdir()}/{x}" for x in ("tmp", "wheel-", "pre")))
    where = re.compile("|".join(map(re.escape, places)).encode())
    assert [name for name, content in held.items() if where.search(content)] == []


def assert_valid(bill):
    from cyclonedx.schema import SchemaVersion  # here, so that collecting tests need not have it
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill.decode()) is None


def digests(components):
    """SHA-256 of everything inside that is a file, by its name."""
    found = {}
    for each in components:
        if "purl" not in each:
            found[each["name"]] = each["hashes"][0]["content"]
        found |= digests(each.get("components", ()))
    return found


def test_a_wheels_bill_is_valid_and_names_all_that_is_not_source(held):
    bill = held[f"{ABOUT}sboms/{BILL}"]
    assert_valid(bill)
    components = json.loads(bill)["components"]
    expected = BUNDLE | {name for name in held if name.startswith(PREBUILT)}
    assert digests(components) == {n: hashlib.sha256(held[n]).hexdigest() for n in expected}
    versions = {c["name"]: c["version"] for c in components if "purl" in c}
    assert versions["ziglang"] == pins("tools/prebuild.lock")["ziglang"]
    assert set(versions) == {"ziglang", "musl"}


def test_a_pure_wheel_has_a_bill_too(pure):
    [made] = pure.glob("*.whl")
    bill = unpacked(made)[f"{ABOUT}sboms/{BILL}"]
    assert_valid(bill)
    assert set(digests(json.loads(bill)["components"])) == BUNDLE


@pytest.fixture(scope="module")
def installed(package, tmp_path_factory):
    """What the package puts on a machine."""
    place = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "--extract", package, place], check=True)
    return place


def test_every_library_in_the_package_has_a_true_record_of_its_files(installed):
    site = installed / SITE
    rows = [
        row
        for record in site.glob("*.dist-info/RECORD")
        for row in csv.reader(record.read_text().splitlines())
    ]
    digests = {name: digest for name, digest, _ in rows if digest}
    false = [name for name, digest in digests.items() if recorded(site / name) != digest]
    assert false == []
    files = {
        str(p.relative_to(site)) for p in site.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }
    assert files == {name for name, *_ in rows}


def test_every_link_of_a_document_leads_somewhere_in_the_package(installed):
    place = installed / PAGES
    files = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_file()}
    assert set(files) >= READ_FIRST | {"docs/index.md"}
    assert list(broken_links({name: path.read_bytes() for name, path in files.items()})) == []


def test_every_page_that_a_unit_or_a_manual_names_is_in_the_package(installed):
    texts = [path.read_text() for path in (installed / "lib/systemd/system").iterdir()]
    texts += [gzip.decompress(p.read_bytes()).decode() for p in installed.rglob("*.1.gz")]
    named = {
        n for text in texts for n in re.findall(rf"/{PAGES}/[\w/.-]+", text.replace("\\-", "-"))
    }
    assert f"/{PAGES}/docs/how-to/technician.md" in named
    assert {name for name in named if not (installed / name[1:]).exists()} == set()


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian_finds_nothing_in_what_is_ours(package, tmp_path):
    tree, sums = tmp_path / "tree", tmp_path / "tree/DEBIAN/md5sums"
    tree.mkdir()
    subprocess.run(["dpkg-deb", "--control", package, tree / "DEBIAN"], check=True)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as files:
        without = f"--exclude=./{LIBRARIES}"  # as published: debian/*.lintian-overrides
        subprocess.run(["tar", "-x", without, "-C", tree], stdin=files.stdout, check=True)
    kept = [line for line in sums.read_text().splitlines(True) if f" {LIBRARIES}/" not in line]
    sums.write_text("".join(kept))
    made = tmp_path / "ours.deb"
    build = ("dpkg-deb", "--build", "--root-owner-group", "-Zgzip", tree, made)
    subprocess.run(build, check=True, capture_output=True)
    check = ("lintian", "--allow-root", "--fail-on", "error,warning", made)
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def recorded(path):
    digest = hashlib.sha256(path.read_bytes()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_the_packages_bill_is_valid_and_true_of_what_is_installed(installed, held):
    bill = (installed / "usr/share/doc/calibration-agent" / BILL).read_bytes()
    assert_valid(bill)
    components = json.loads(bill)["components"]
    versions = {c["name"]: c["version"] for c in components}
    assert versions == {**pins("debian/requirements.lock"), "calibration-agent": "0.1.0"}
    locked = (REPOSITORY / "debian/requirements.lock").read_text()
    ours = "calibration-agent"
    assert all(c["hashes"][0]["content"] in locked for c in components if c["name"] != ours)
    named = digests(components)
    for name, digest in named.items():
        assert hashlib.sha256((installed / SITE / name).read_bytes()).hexdigest() == digest, name
    bundled = {str(p.relative_to(installed / SITE)) for p in (installed / SITE).glob("*.libs/*")}
    assert set(named) == bundled | BUNDLE | {n for n in held if n.startswith(PREBUILT)}
