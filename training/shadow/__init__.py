"""Paired shadow sampling: logged requests asked again on other candidates, under a hard dollar cap."""
