"""nearshot: recognise images from a few labelled shots, say Unknown when it should, find images by example or by words."""
