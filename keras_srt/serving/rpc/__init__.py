"""The gRPC protocol of TF Serving."""
