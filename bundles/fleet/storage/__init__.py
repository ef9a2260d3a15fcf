"""SQLite or PostgreSQL: the tables, and how transactions begin and end."""
