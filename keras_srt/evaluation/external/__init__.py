"""External models, which were not trained by this package: files, folders and servers."""
