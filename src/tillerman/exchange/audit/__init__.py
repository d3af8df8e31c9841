"""The way back of baking: which directions lie in a model's biases, and which were taken out of its weights."""
