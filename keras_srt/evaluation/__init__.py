"""Evaluation of classifiers: accuracy under attacks, gradient masking, accuracy curves."""
