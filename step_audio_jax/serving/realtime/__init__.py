"""`/v1/realtime`: conversations in OpenAI's protocol, GA event names."""
