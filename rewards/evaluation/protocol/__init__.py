"""The published evaluation of text-to-motion models: what is measured of motions, and the metrics made of it."""
