"""Calibrations as the state keeps them, as far as deciding what is due reads them."""

from agent.bundle.installed import BUILT_IN, bundle_identity, load_installed
from agent.measure.machine import fingerprint
from agent.upkeep.due import look_around


def body_of_now(config, **machine):
    """A calibration made on this machine as it is, with this compiler and the built-in bundle."""
    present = look_around(config, 0.0)
    bundle = load_installed(config.state_dir, BUILT_IN)
    facts = {"fingerprint": fingerprint(present.machine), **present.machine.to_json(), **machine}
    return {
        "machine": facts,
        "toolchain": {"kind": "compiler", "mark": present.mark},
        "bundle": {**bundle_identity(bundle), "path": str(bundle.path)},
    }


def put_in_force(state, body, at):
    """The number of a calibration with this body, made at ``at``."""
    return state.finish(state.begin_run("test", 1, at), body, at)
