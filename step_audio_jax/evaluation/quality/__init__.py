"""How recordings sound, without people: numbers of models and of formulae."""
