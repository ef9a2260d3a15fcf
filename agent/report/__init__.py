"""What leaves the machine when reporting is on: a few hundred bytes, and how they are sent."""
