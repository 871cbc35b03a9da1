"""What a GPU can serve: the question, the search, the answer, and what would make it fit."""
