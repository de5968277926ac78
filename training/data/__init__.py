"""One module a data set: where it comes from, how its files are read."""
