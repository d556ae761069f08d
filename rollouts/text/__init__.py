"""Text encoders, from prompts to embeddings, and the cache of the embeddings."""
