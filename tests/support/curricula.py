"""A curriculum for the tiny run."""

STAGES = ("++curriculum.sizes.num_pairs=[1,[1,2]]", "++curriculum.sizes.length=[8,12]", "curriculum.steps=[2,5]")
"""8 tokens with 1 pair, from step 2 on 12 tokens with 1 or 2, and from step 5 on the 16 with 2 of the tiny task."""
