"""Stores: Parquet files with the embeddings of many chains."""
