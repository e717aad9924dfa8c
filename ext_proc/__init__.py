"""What may be seen of it? Envoy's external processing filter; `exchange.py` tells the story."""
