"""Notifications: alerts to chats, mail and webhooks, by rules, surviving restarts."""
