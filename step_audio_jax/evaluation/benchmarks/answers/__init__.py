"""How answers to chats are scored, in writing and as others hear them."""
