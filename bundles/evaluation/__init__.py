"""How well an unseen machine is predicted from a few timings: arms, protocol, figures, report."""
