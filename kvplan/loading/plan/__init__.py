"""The files of a committee: reading and including them."""
