"""The page on a folder of runs: what it reads, compares and draws."""
