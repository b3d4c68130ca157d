"""How many facts a pattern learns to give back: the search, the runs behind it, and its record."""
