"""Clients of the REST and gRPC protocols of TF Serving."""
