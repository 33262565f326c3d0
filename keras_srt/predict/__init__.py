"""Classification of image files."""
