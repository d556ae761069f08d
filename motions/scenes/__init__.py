"""Scenes: a text as entities, actions in order and relations; objects with sizes; and where everything stands."""
