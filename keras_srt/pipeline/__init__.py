"""A run: prepare, train, evaluate, report, publish."""
