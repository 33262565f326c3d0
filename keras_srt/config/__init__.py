"""Configs: sections and their ranges, JSON, variants, overrides."""
