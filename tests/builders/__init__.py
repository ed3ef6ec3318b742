"""What tests are made of: small networks, pictures, results."""
