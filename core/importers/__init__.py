"""From the models of other libraries to a spec: read as JSON by code of our own, so that nothing of theirs is run.

What has no counterpart, or would silently make another network, is refused by name; all else is said option by option.
"""
