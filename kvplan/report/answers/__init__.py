"""What each command shows of its answer."""
