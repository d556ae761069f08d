"""Rewards of text-to-motion retrieval (TMR)."""
