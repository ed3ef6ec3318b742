"""From float to int8: images, ranges, layers, quantiser pairs, a budget."""
