"""How recordings sound, without people."""
