"""What the fuzz sends: sound bodies, odd values, spoiled text, costly bodies, odd ways to send."""
