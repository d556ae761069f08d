"""Text encoders and the cache of their embeddings."""
