"""One verb, one file, read from top to bottom: parse, resolve, compute, write, record."""
