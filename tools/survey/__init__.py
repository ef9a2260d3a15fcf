"""What loop nests of public C are made of, for a corpus that resembles them."""
