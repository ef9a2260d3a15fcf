"""The main job: from the fixed set to a head for this machine, and predictions with it.

The door is ``calibrate.calibrate``.
"""
