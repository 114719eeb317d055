"""What was logged: calls in parts of whole sessions, who could have answered them, what is known of that."""
