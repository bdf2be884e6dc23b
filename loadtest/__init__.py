"""Load generators and the stand-in runtime; they talk HTTP and import no project code."""
