"""What every layer stands on: atomic writes and safe arrays of objects."""
