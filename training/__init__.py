"""Small PyTorch training: networks, data, one loop, and a recipe for each network."""
