"""The mechanisms that families are made of."""
