"""Classification of image files with a SavedModel, a TFLite file or a server."""
