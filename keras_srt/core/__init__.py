"""Errors, validation, the component registry, TensorFlow on first use, files and images."""
