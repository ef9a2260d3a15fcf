"""The calibration agent: predicts which version of a loop runs fastest on this machine."""

__version__ = "0.1.0"
