"""What we believe: the trained artefact, loaded, verified and exported."""
