"""Tasks: families of examples with an answer; one file each."""
