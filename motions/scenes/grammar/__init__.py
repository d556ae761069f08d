"""The pieces of sentences that the rule parser reads, and the shapes of clauses."""
