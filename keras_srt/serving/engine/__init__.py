"""What answers requests: SavedModels in this process, or a gateway to TF Serving."""
