"""Own images before a training: what is wrong with them, and a config to start from."""
