"""A site's own bundle: the encoder trained further on the site's labels."""
