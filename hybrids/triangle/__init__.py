"""The Efficiency / Compactness / Recall triangle: what is measured, its bound, and its coordinates."""
