"""Commands of the command line that are no part of a package of their own."""
