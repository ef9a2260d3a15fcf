import io
import os
import random
import stat
import subprocess
import tarfile

import pytest

from agent.bundle.bundle import MAX_BYTES as MAX_FILE
from agent.bundle.bundle import default_bundle, load_bundle
from agent.errors import BundleError, StateError
from agent.update.archive import MAX_BYTES, MEMBERS, pack_bundle, unpack, write_bundle
from tests.agent.bundle.bundles_made import write_bundle as make_bundle

END = bytes(1024)


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def tar(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive as Python's tarfile writes it, without the padding to a whole record."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
        length = archive.offset
    return out.getvalue()[:length] + END


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def three(**instead) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The members of a sound archive, some of them put in place by file name without its dot."""
    return [
        instead.get(name.partition(".")[0]) or member(name, name.encode() * 30) for name in MEMBERS
    ]


def test_a_bundle_survives_packing(bundle):
    assert unpack(pack_bundle(bundle)) == {name: (bundle / name).read_bytes() for name in MEMBERS}


def test_the_default_bundle_survives_packing():
    content = pack_bundle(default_bundle())
    assert len(content) < MAX_BYTES
    assert set(unpack(content)) == set(MEMBERS)


def test_the_same_bundle_packs_to_the_same_bytes_whatever_its_files_times_and_modes(bundle):
    before = pack_bundle(bundle)
    for name in MEMBERS:
        (bundle / name).chmod(0o600)
        os.utime(bundle / name, (1, 1))
    (bundle / "README").write_text("not part of it")
    assert pack_bundle(bundle) == before


def test_an_archive_is_what_the_standard_library_would_write():
    content = tar(*three())
    assert unpack(content) == {name: name.encode() * 30 for name in MEMBERS}


def test_tar_itself_reads_an_archive(bundle, tmp_path):
    (tmp_path / "b.tar").write_bytes(pack_bundle(bundle))
    done = subprocess.run(
        ["tar", "tvf", tmp_path / "b.tar"], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in done.stdout.splitlines()] == list(MEMBERS)
    assert not done.stderr


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1024])
def test_files_of_any_length_are_padded_to_blocks(tmp_path, size):
    contents = {name: bytes([65 + k]) * size for k, name in enumerate(MEMBERS)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert unpack(pack_bundle(tmp_path)) == contents


@pytest.mark.parametrize("name", MEMBERS)
def test_a_directory_without_one_of_the_files_is_not_packed(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        pack_bundle(bundle)


def test_a_link_is_not_packed(bundle, tmp_path):
    (bundle / "prior.json").rename(tmp_path / "elsewhere")
    (bundle / "prior.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"prior\.json cannot be read"):
        pack_bundle(bundle)


def test_too_large_a_file_is_not_packed(bundle):
    with (bundle / "encoder.onnx").open("wb") as file:
        file.truncate(2**33)  # sparse
    with pytest.raises(BundleError, match="larger than"):
        pack_bundle(bundle)


def test_files_too_large_together_are_neither_packed_nor_unpacked(bundle):
    for name in ("encoder.onnx", "prior.json"):
        (bundle / name).write_bytes(bytes(MAX_FILE[name]))
    with pytest.raises(BundleError, match="more than"):
        pack_bundle(bundle)
    files = {name: member(name, (bundle / name).read_bytes()) for name in MEMBERS}
    with pytest.raises(BundleError, match="more than"):
        unpack(tar(*files.values()))


LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE]
DEVICES = [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
OTHERS = [tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE, b"V", b"M"]


@pytest.mark.parametrize("kind", LINKS + DEVICES + OTHERS)
def test_anything_but_a_regular_file_is_refused(kind):
    special = member("encoder.onnx", type=kind, linkname="/etc/passwd" if kind in LINKS else "")
    with pytest.raises(BundleError, match=r"is not a regular file|belongs"):
        unpack(tar(*three(encoder=special)))


@pytest.mark.parametrize(
    "name",
    ["../encoder.onnx", "/encoder.onnx", "./encoder.onnx", "encoder.onnx/", "a/encoder.onnx",
     "encoder.onnx ", "ENCODER.ONNX", "", "prior.json", "encoder.onnx\0x", "x" * 100],
)  # fmt: skip
def test_any_other_name_is_refused(name):
    content = bytearray(tar(*three()))
    at = content.index(b"encoder.onnx")
    content[at : at + 100] = name.encode().ljust(100, b"\0")
    with pytest.raises(BundleError, match=r"where encoder\.onnx belongs"):
        unpack(bytes(content))


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extended_headers_are_refused(kind):
    # A long link name makes GNU headers, a comment makes pax ones.
    odd = member("manifest.json", b"{}", linkname="x" * 200, pax_headers={"comment": "hello"})
    with pytest.raises(BundleError):
        unpack(tar(*three(manifest=odd), kind=kind))


@pytest.mark.parametrize(
    "fields",
    [{"mode": 0o755}, {"mode": 0o4644}, {"uid": 1}, {"gid": 1}, {"mtime": 1}, {"uname": "root"},
     {"gname": "x"}, {"linkname": "x"}],
)  # fmt: skip
def test_a_header_that_says_more_is_refused(fields):
    with pytest.raises(BundleError, match=r"header of prior\.json says more"):
        unpack(tar(*three(prior=member("prior.json", b"{}", **fields))))


def test_other_ways_to_write_the_same_number_are_refused():
    content = tar(*three())
    for other in (b"%011o " % 390, b"%10o \0" % 390, b"\x80" + (390).to_bytes(11, "big")):
        with pytest.raises(BundleError):
            unpack(content[:124] + other + content[136:])


@pytest.mark.parametrize("size", [0, 389, 513, 8_000, 2**20, 8**11 - 1])
def test_a_size_that_lies_is_refused(size):
    content = bytearray(tar(*three()))
    content[124:136] = b"%011o\0" % size
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    with pytest.raises(BundleError):
        unpack(bytes(content))


def test_members_twice_out_of_order_missing_or_too_many_are_refused():
    manifest, encoder, prior = three()
    for members in (
        [manifest, manifest, encoder, prior],
        [manifest, encoder, prior, prior],
        [encoder, manifest, prior],
        [manifest, encoder],
        [manifest, encoder, prior, member("run.sh", b"rm -rf /", mode=0o755)],
        [],
    ):
        with pytest.raises(BundleError):
            unpack(tar(*members))


def test_every_length_but_the_right_one_is_refused():
    content = tar(*three())
    for cut in range(0, len(content), 13):
        with pytest.raises(BundleError):
            unpack(content[:cut])
    for more in (b"\0", b"x", bytes(512), bytes(9216), content):
        with pytest.raises(BundleError):
            unpack(content + more)


def test_an_archive_larger_than_the_limit_is_refused_unread():
    with pytest.raises(BundleError, match="larger than"):
        unpack(bytes(MAX_BYTES + 1))


def test_every_byte_counts():
    content = tar(*three())
    files = unpack(content)
    rng = random.Random(4)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << rng.randrange(8)
        try:
            found = unpack(bytes(changed))
        except BundleError:
            continue
        assert found != files  # a byte of a file; its digest in the manifest is for those


def test_the_files_of_a_bundle_are_written_as_they_were(bundle, tmp_path):
    place = tmp_path / "new"
    place.mkdir()
    write_bundle(unpack(pack_bundle(bundle)), place)
    assert load_bundle(place).digest == load_bundle(bundle).digest
    assert sorted(x.name for x in place.iterdir()) == sorted(MEMBERS)
    assert not any((place / name).stat().st_mode & stat.S_IXUSR for name in MEMBERS)


@pytest.mark.parametrize(
    "names", [["manifest.json"], ["../prior.json", "encoder.onnx", "manifest.json"], []]
)
def test_only_a_bundles_files_are_written(tmp_path, names):
    with pytest.raises(BundleError):
        write_bundle(dict.fromkeys(names, b""), tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_there_is_overwritten_or_followed(bundle, tmp_path):
    place, victim = tmp_path / "new", tmp_path / "victim"
    place.mkdir()
    (place / "manifest.json").symlink_to(victim)
    with pytest.raises(StateError, match="cannot be written"):
        write_bundle(unpack(pack_bundle(bundle)), place)
    assert not victim.exists()


def test_a_directory_that_is_not_there_is_the_machines_fault(bundle, tmp_path):
    with pytest.raises(StateError) as caught:
        write_bundle(unpack(pack_bundle(bundle)), tmp_path / "none")
    assert caught.value.hint
