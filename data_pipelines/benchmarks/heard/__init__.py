"""Loaders of what is asked aloud: questions, chats, options, tools."""
