"""Whether a calibration still holds: what is due and why, a quick check, what is on record."""
