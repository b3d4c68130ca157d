"""Hydra configuration: choices only. Options of plugin groups are generated from the registry."""
