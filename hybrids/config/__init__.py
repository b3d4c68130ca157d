"""From the registry to Hydra's schemas, and from a composed configuration to a run."""
