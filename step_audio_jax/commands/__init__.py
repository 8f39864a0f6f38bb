"""What every door shares: flags, gin files, the console."""
