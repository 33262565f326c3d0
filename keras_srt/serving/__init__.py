"""Serving: TF Serving's REST protocol without Docker, a gateway for TF Serving, and clients."""
