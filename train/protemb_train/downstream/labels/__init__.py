"""Predictors trained on a user's own labels."""
