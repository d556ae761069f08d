"""Where calls run: in this process or in Ray actors."""
