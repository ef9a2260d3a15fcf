"""Machines that exist as numbers only, and the times of programs on them: free labels."""
