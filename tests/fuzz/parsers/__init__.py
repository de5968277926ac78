"""One module a parser: what it may answer, beside a slow and obvious reading of the same bytes."""
