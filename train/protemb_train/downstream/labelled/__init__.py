"""Labels of the user's own: a table in, a predictor on top of an embedding out."""
