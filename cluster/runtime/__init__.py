"""Where calls run: in this process or in Ray actors, with the same interface and the same results."""
