"""One module a bundled model; each holds its ``RECIPE``."""
