"""What tasks share: declared sizes and facts, single questions, in-context search, recalled bits, query places."""
