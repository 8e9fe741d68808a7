"""The protein vector: pairs of similar chains, the linear map fitted to them, fold retrieval."""
