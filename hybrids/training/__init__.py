"""One run: its data, its training with Lightning, its folder and its result."""
