"""Configs: their sections, and reading them from JSON with variants and overrides."""
