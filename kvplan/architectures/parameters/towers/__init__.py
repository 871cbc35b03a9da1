"""Vision and audio towers, and the projectors that bring their outputs to the text model's width."""
