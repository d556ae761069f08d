"""Characters that run in a browser, on a page that needs no network."""
