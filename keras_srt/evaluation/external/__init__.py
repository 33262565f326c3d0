"""Models that were not trained here: files, folders and servers."""
