"""What is computed, and what it costs: the stack that a pattern describes, its decoding and its measurement."""
