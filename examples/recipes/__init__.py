"""Where the recipes were until they came into the package."""
