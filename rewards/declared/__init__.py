"""What rewards declare: their options, weights and terms. Imports neither torch nor ray."""
