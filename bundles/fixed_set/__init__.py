"""What agents time: its order, designed, and its programs, compiled beforehand."""
