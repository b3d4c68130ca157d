"""What takes many runs: how many facts a pattern recalls, and how many bits of a state matter."""
