"""The vector of a whole protein: pairs of alike chains, the linear map fitted to them, fold retrieval."""
