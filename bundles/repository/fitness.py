"""Is a bundle fit to be published? What a machine will check, and some of what it cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from agent.bundle.bundle import Bundle, load_bundle
from agent.bundle.probe import probe
from agent.calibration.predictor import check_possible
from agent.errors import BundleError, InputError
from agent.update.archive import pack_bundle, unpack, write_bundle
from bundles.repository.answers import Note

_HINT = "Correct it, or make it again with `bundles pretrain` or `bundles finetune`."


def examined_archive(directory: Path) -> tuple[bytes, Bundle]:
    """The archive of the bundle in ``directory``, and what is in it, examined.

    Raises:
        BundleError: what is wrong with it.
    """
    try:
        content = pack_bundle(directory)
    except BundleError as error:
        raise BundleError(error.message, _HINT) from error
    return content, examine_archive(content, str(directory))


def examine_archive(content: bytes, named: str) -> Bundle:
    """The bundle in an archive, after every check that a machine will make, and some more.

    Args:
        content: the archive.
        named: where it came from, in errors: nobody knows the folder it is tried in.

    Raises:
        BundleError: what is wrong with it.
    """
    with tempfile.TemporaryDirectory(prefix="bundles-") as folder:
        try:
            write_bundle(unpack(content), Path(folder))
            bundle = load_bundle(Path(folder))
            _try(bundle)
        except BundleError as error:
            raise BundleError(error.message.replace(folder, named), _HINT) from error
    return bundle


def _try(bundle: Bundle) -> None:
    if not bundle.golden[0]:
        raise BundleError("the bundle has no golden rows: no machine could test it")
    if not bundle.provenance:
        what = "the bundle does not say what it was made from (provenance in its manifest)"
        raise BundleError(what)
    probe(bundle)
    check_possible(bundle)


def refuse_quick(title: str, provenance: object) -> None:
    """Refuse a bundle that was made as a test of making bundles; InputError."""
    if isinstance(provenance, Mapping) and provenance.get("quick"):
        raise InputError(
            f"{title} was made by `bundles pretrain --quick`: a test of the pipeline, which "
            "predicts badly",
            "Make it without --quick. For a trial repository: --force.",
        )


def doubts(bundle: Bundle) -> list[Note]:
    """What a person may want to know before machines get it."""
    notes = []
    if bundle.provenance.get("quick"):
        notes.append(("quick", "The bundle was made with --quick, as a test: it predicts badly."))
    code = str(bundle.provenance.get("code_version", "unknown"))
    if code == "unknown" or code.endswith("-dirty"):
        words = f"Nobody can make this bundle again: its code version is {code[:60]}."
        notes.append(("code-unknown", words))
    if not bundle.provenance.get("evaluation"):
        words = "The bundle does not say how good it is (no evaluation in its provenance)."
        notes.append(("no-evaluation", words))
    return notes
