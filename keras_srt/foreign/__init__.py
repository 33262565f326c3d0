"""Third-party models as classifiers of images in [0, 1] that output logits."""
