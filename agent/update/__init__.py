"""Bundles from the centre: fetched, verified, tried, and only then put in force."""
