"""May this call pass? Envoy's external authorization filter; `check.py` tells the story."""
