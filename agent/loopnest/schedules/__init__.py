"""Steps on loops: what each does, when it is legal, which are worth a look."""
