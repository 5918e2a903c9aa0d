"""Models: front-ends, and the recogniser made of ESPnet's parts."""
