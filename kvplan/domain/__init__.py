"""What a model must remember, and the values that everybody shares: pure, no file is read but gpus.yaml."""
