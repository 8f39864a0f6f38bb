"""What joins a conversation: who listens, who replies, what is played."""
