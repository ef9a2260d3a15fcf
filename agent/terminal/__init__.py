"""All that people see: words, tables, progress, and what is said when something goes wrong."""
