"""What the daemon shows to the machine it runs on: metrics, health, status. It only reads."""
