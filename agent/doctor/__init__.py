"""`agent doctor`: everything this agent depends on, looked at without changing anything."""
