"""Scenes from text: parsed into prompts for the policies, and planned."""
