"""Channel mixers: per-token features; one file each."""
