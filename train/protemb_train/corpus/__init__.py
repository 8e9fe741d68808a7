"""Building and reading the corpus of protein chains."""
