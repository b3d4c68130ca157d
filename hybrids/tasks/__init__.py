"""What tasks share: single questions, in-context search, recalled bits, places of queries."""
