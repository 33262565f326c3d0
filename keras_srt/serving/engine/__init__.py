"""Engines that run requests: SavedModels in this process, or a gateway to TF Serving."""
