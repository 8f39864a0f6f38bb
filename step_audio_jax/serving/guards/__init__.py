"""What stands between the network and the models: who, how much, how long."""
