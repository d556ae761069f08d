"""The semantic reward: similarity of text and motion by TMR (Petrovich et al. 2023)."""
