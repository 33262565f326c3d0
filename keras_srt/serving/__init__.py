"""Recognition on a server: TF Serving's REST protocol without Docker, or a gateway before it."""
