"""What the service is compared with; nothing is imported here, for that would count as theirs."""
