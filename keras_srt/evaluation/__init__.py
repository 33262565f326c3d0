"""Robust accuracy under attacks, of classifiers trained here or elsewhere."""
