"""Demonstrations for behaviour cloning: experts, labelled states and the refinement of labels in simulation."""
