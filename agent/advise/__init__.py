"""A person's own C file: predicted, ranked, measured."""
