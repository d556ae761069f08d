"""The evaluation of a policy by the published protocol of text-to-motion models: what `jobs.evaluate` does."""
