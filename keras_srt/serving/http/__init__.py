"""The HTTP side of a server: protocol, limits, metrics, web application and process."""
