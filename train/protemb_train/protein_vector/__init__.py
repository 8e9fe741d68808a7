"""The vector of a whole protein: pairs of alike chains, the linear map learnt from them, and fold retrieval."""
