"""Errors, settings, component registries, lazy TensorFlow, atomic files and image decoding."""
