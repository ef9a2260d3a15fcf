"""The calibration agent: predicts which version of a loop runs fastest on this machine."""
