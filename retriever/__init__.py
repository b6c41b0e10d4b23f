"""Query to decision: search, rank, decide."""
