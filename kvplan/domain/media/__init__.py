"""Images, videos and clips as tokens: what is asked, the rules of preprocessing, and what one costs.

A rule is a value (`images.py`, `videos.py`, `sounds.py`), made by a family's row (`kvplan/architectures/media/`) or by an
engine that counts for itself. The arithmetic of sizes and tilings is in `sizes.py` and `grids.py`.
Sources: transformers 5.24, the file named at each rule, unless another is said.
"""
