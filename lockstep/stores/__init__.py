"""One credential in its stores: two secrets in each, and what their texts mean."""
